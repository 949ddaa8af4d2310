"""Tables of models' scores over queries: RouteLLM, RouterBench and LLMRouter.

Sources: the CSV files of RouteLLM's evaluation (`prompt` and one column of truth values per model),
RouterBench (`prompt` as a Python list literal, a score column and `MODEL|total_cost` per model),
and LLMRouter's routing data, one line per query and model. All need a pair of models.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from querytier.data.formats.canonical import (
    OTHER_MODEL,
    UnusableRecordError,
    canonical_fields,
    unusable,
)
from querytier.data.formats.reading import Record
from querytier.data.model_pair import ModelPair, closest_model
from querytier.data.values import number_in, score_in, text_in
from querytier.errors import UsageError

__all__ = [
    "are_llmrouter_fields",
    "are_routellm_fields",
    "are_routerbench_fields",
    "llmrouter_records",
    "routellm_fields",
    "routerbench_fields",
]

Fields = Mapping[str, object]

_COST = "|total_cost"
_INDEX = ("", "Unnamed: 0", "index")  # as pandas writes it to CSV
_MODEL_NAME = re.compile(r"(?=.*\d)(?=.*[-/])\S+")
_SHOWN_MODELS = 12


def are_routellm_fields(fields: Fields) -> bool:
    """Return whether a record is a prompt and the truth values of two or more models.

    All columns except the prompt (and an index without a name) must have names like models (a
    digit, and a hyphen or a slash), so that a plain log with flags is not taken for one.
    """
    models = _routellm_models(fields)
    judged = [model for model in models if fields[model] is not None]
    return (
        "prompt" in fields
        and len(models) >= 2
        and bool(judged)
        and all(_MODEL_NAME.fullmatch(model) for model in models)
        and all(str(fields[model]) in ("True", "False") for model in judged)
    )


def are_routerbench_fields(fields: Fields) -> bool:
    """Return whether a record has a prompt, the name of its evaluation and costs of models."""
    return {"prompt", "eval_name"} <= fields.keys() and bool(_routerbench_models(fields))


def are_llmrouter_fields(fields: Fields) -> bool:
    """Return whether a record is the performance of one model on one query."""
    return {"query", "model_name", "performance"} <= fields.keys()


def routellm_fields(fields: Fields, pair: ModelPair | None) -> dict[str, object]:
    """Return the canonical fields of a line from RouteLLM.

    Raises
    ------
    UnusableRecordError
        If it has no prompt.
    UsageError
        If no pair is given, or a model of it has no column.
    """
    cheap, frontier = _columns(pair, _routellm_models(fields))
    return canonical_fields(
        None,
        query=_text_of(fields, "prompt"),
        cheap_score=score_in(fields[cheap]),
        frontier_score=score_in(fields[frontier]),
    )


def routerbench_fields(fields: Fields, pair: ModelPair | None) -> dict[str, object]:
    """Return the canonical fields of a line from RouterBench.

    The prompt is a list of turns of the user. The score covers all turns, so they are joined.

    Raises
    ------
    UnusableRecordError
        If it has no prompt, or one that cannot be read.
    UsageError
        If no pair is given, or a model of it has no column.
    """
    cheap, frontier = _columns(pair, _routerbench_models(fields))
    return canonical_fields(
        None,
        id=text_in(fields.get("sample_id")),
        query=_text_of({"prompt": _turns(fields.get("prompt"))}, "prompt"),
        cheap_score=score_in(fields.get(cheap)),
        frontier_score=score_in(fields.get(frontier)),
        cheap_cost=number_in(fields[cheap + _COST]),
        frontier_cost=number_in(fields[frontier + _COST]),
        domain=text_in(fields.get("eval_name")),
    )


def llmrouter_records(records: Iterator[Record], pair: ModelPair | None) -> Iterator[Record]:
    """Yield a record for each query, once the lines of both models are read.

    It has the line number of the later line. Lines of other models have the problem `OTHER_MODEL`;
    a second line of one model before the other model's is a problem; halves without the other half
    come last.

    Memory: the first half of every query whose second half is still to come. That is little if the
    lines of a query are together, and half of the file if the lines of a model are.

    Raises
    ------
    UsageError
        If no pair is given, or the file has no line of one of its models.
    """
    halves: dict[tuple[str, str], _Half] = {}
    models: dict[str, None] = {}
    tiers: set[str] = set()
    for record in records:
        if record.fields is None or record.problem is not None:
            yield record
            continue
        try:
            half = _half(record, record.fields, pair, models)
        except UnusableRecordError as error:
            yield unusable(record, str(error))
            continue
        tiers.add(half.tier)
        # The key is the query's text, because LLMRouter's lines have no id.
        other = halves.setdefault(half.key, half)
        if other.tier != half.tier:
            yield _joined(halves.pop(half.key), half)
        elif other is not half:
            yield unusable(record, f"the {half.tier} model answered this query before")
    if models and len(tiers) < 2:
        raise _unknown_models(pair, list(models))
    for half in halves.values():
        yield unusable(half.record, f"only the {half.tier} model answered this query")


@dataclass(frozen=True, slots=True)
class _Half:
    """What the line of one model contributes to a record."""

    record: Record
    key: tuple[str, str]
    tier: str
    score: float | None
    cost: float | None


def _half(record: Record, fields: Fields, pair: ModelPair | None, models: dict[str, None]) -> _Half:
    model = text_in(fields.get("model_name"))
    if model is None:
        raise UnusableRecordError("model_name missing")
    models[model] = None
    if pair is None:
        raise _unknown_models(pair, list(models))
    tier = pair.tier_of(model)
    if tier is None:
        raise UnusableRecordError(f"{OTHER_MODEL}: {model}")
    key = (text_in(fields.get("task_name")) or "", _text_of(fields, "query"))
    score, cost = score_in(fields.get("performance")), number_in(fields.get("cost"))
    return _Half(record, key, tier, score, cost)


def _joined(first: _Half, second: _Half) -> Record:
    cheap, frontier = (first, second) if first.tier == "cheap" else (second, first)
    domain, query = first.key
    fields = canonical_fields(
        None,
        query=query,
        cheap_score=cheap.score,
        frontier_score=frontier.score,
        cheap_cost=cheap.cost,
        frontier_cost=frontier.cost,
        domain=domain,
    )
    return Record(second.record.line, fields, None, second.record.raw)


def _columns(pair: ModelPair | None, models: list[str]) -> tuple[str, str]:
    names = (pair.cheap, pair.frontier) if pair else ("", "")
    cheap, frontier = (closest_model(name, models) for name in names)
    if not cheap or not frontier or cheap == frontier:
        raise _unknown_models(pair, models)
    return cheap, frontier


def _unknown_models(pair: ModelPair | None, models: list[str]) -> UsageError:
    more = ", ..." if len(models) > _SHOWN_MODELS else ""
    shown = ", ".join(models[:_SHOWN_MODELS]) + more
    if pair is None:
        problem = "no pair of models is named"
    else:
        problem = f"it does not have both {pair.cheap!r} and {pair.frontier!r}"
    return UsageError(
        f"the log is a table of several models' scores, and {problem}; "
        f"name the cheap and the frontier model, from: {shown}"
    )


def _routellm_models(fields: Fields) -> list[str]:
    return [name for name in fields if name != "prompt" and name not in _INDEX]


def _routerbench_models(fields: Fields) -> list[str]:
    return [name.removesuffix(_COST) for name in fields if name.endswith(_COST)]


def _text_of(fields: Fields, name: str) -> str:
    """Return a query unchanged: in these tables, text that looks like JSON is the query itself."""
    query = fields.get(name)
    if not isinstance(query, str) or not query.strip():
        raise UnusableRecordError("query empty" if isinstance(query, str) else f"{name} missing")
    return query


def _turns(prompt: object) -> object:
    """Return the turns of a list literal as one text; other text unchanged."""
    if not isinstance(prompt, str) or not prompt.lstrip().startswith("["):
        turns = prompt
    else:
        try:
            # Not JSON: RouterBench writes Python's repr of the list, with single quotes.
            turns = ast.literal_eval(prompt.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise UnusableRecordError("prompt is not a readable list literal") from error
    if isinstance(turns, list) and all(isinstance(turn, str) for turn in turns):
        return "\n".join(turns)
    return turns
