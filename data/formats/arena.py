"""Votes of Chatbot Arena: people's choices between the answers of two of many models.

There are two layouts: the published conversations (`model_a`, `model_b`, `winner`,
`conversation_a`), whose turns are text (lmsys/chatbot_arena_conversations) or parts
(lmarena-ai/arena-human-preference-140k); and the table of 55,000 votes
(lmsys/lmsys-arena-human-preference-55k), with a JSON list of the user's turns as `prompt` and one
column per outcome. Both are known from the sets' cards and from programs that read them.
"""

from collections.abc import Mapping

from querytier.data.formats.canonical import OTHER_MODEL, UnusableRecordError, canonical_fields
from querytier.data.model_pair import ModelPair
from querytier.data.text_view import last_user_text
from querytier.data.values import first_present, json_in, score_in, sequence_in, text_in, time_in
from querytier.errors import UsageError

__all__ = ["are_arena_fields", "arena_fields"]

Fields = Mapping[str, object]

_OUTCOME_COLUMNS = {"winner_model_a": "model_a", "winner_model_b": "model_b", "winner_tie": "tie"}
_OUTCOMES = {"tie": "tie", "tie (bothbad)": "both_bad", "both_bad": "both_bad"}


def are_arena_fields(fields: Fields) -> bool:
    """Return whether a record is a vote between two named models, in either layout."""
    names = fields.keys()
    has_outcome = {"winner", "conversation_a"} <= names or ({"prompt", *_OUTCOME_COLUMNS} <= names)
    return {"model_a", "model_b"} <= names and has_outcome


def arena_fields(fields: Fields, pair: ModelPair | None) -> dict[str, object]:
    """Return the canonical fields of a vote; the pair says which model is the frontier one.

    The vote is on the whole conversation, so all turns of the user are joined, as for RouterBench.
    The table of 55,000 votes has only one kind of tie: it is "tie" even if both answers were bad.
    The votes of one evaluation session are one conversation.

    Raises
    ------
    UnusableRecordError
        If a model is not in the pair, there is no query, or there is not exactly one outcome.
    UsageError
        If no pair is given.

    Examples
    --------
    >>> vote = {"model_a": "large", "model_b": "small", "winner": "model_b"}
    >>> hi = [{"role": "user", "content": "Hi"}]
    >>> arena_fields({**vote, "conversation_a": hi}, ModelPair("small", "large"))
    {'query': 'Hi', 'winner': 'cheap'}
    """
    tier_of = _tiers(fields, pair)
    time = time_in(first_present(fields, "tstamp", "timestamp"))
    return canonical_fields(
        None,
        id=text_in(first_present(fields, "question_id", "id")),
        time=time,
        conversation=text_in(fields.get("evaluation_session_id")),
        query=_query(fields),
        language=text_in(fields.get("language")),
        winner=_winner(fields, tier_of),
    )


def _tiers(fields: Fields, pair: ModelPair | None) -> dict[str, str]:
    """Return the tier of both sides of the vote."""
    models = {side: text_in(fields.get(side)) for side in ("model_a", "model_b")}
    if pair is None:
        raise UsageError(
            "the log has votes between many models, and no pair of models is named; name the cheap "
            f"and the frontier model, such as {models['model_a']} and {models['model_b']}"
        )
    tiers: dict[str, str] = {}
    for side, model in models.items():
        tier = pair.tier_of(model) if model else None
        if tier is None:
            raise UnusableRecordError(f"{OTHER_MODEL}: {model}" if model else f"{side} missing")
        tiers[side] = tier
    # Two versions of one model may both match the same tier.
    if len(set(tiers.values())) < 2:
        raise UnusableRecordError(f"{OTHER_MODEL}: both are the {tiers['model_a']} one")
    return tiers


def _winner(fields: Fields, tier_of: Mapping[str, str]) -> str:
    if "winner" in fields:
        outcome = text_in(fields["winner"])
    else:
        chosen = [side for name, side in _OUTCOME_COLUMNS.items() if score_in(fields.get(name))]
        outcome = chosen[0] if len(chosen) == 1 else None
    winner = tier_of.get(outcome or "") or _OUTCOMES.get(outcome or "")
    if winner is None:
        raise UnusableRecordError(f"no one winner: {outcome}" if outcome else "no one winner")
    return winner


def _query(fields: Fields) -> str:
    turns = _conversation(fields) if "conversation_a" in fields else _prompts(fields.get("prompt"))
    query = "\n".join(filter(str.strip, turns))
    if not query:
        raise UnusableRecordError("query empty")
    return query


def _conversation(fields: Fields) -> list[str]:
    turns = sequence_in(fields["conversation_a"])
    return [last_user_text([turn]) for turn in turns if isinstance(turn, Mapping)]


def _prompts(prompt: object) -> list[str]:
    turns = json_in(prompt)
    return [
        turn for turn in (turns if isinstance(turns, list) else [turns]) if isinstance(turn, str)
    ]
