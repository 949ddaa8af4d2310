"""An example: a query, its label, and what its log says about the answers.

A log record becomes an example, and gets its label, in `example_from`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from querytier.data.column_map import PLANNED
from querytier.data.label_rules import Feedback, Winner
from querytier.data.labelling import LabelRules, Outcomes, label_of, scores_of
from querytier.data.model_pair import ModelPair
from querytier.data.values import (
    BadRecordError,
    number_of,
    numbers_of,
    query_of,
    text_of,
    time_of,
    word_of,
)

__all__ = ["Example", "example_from", "feedback_of", "outcomes_in"]


@dataclass(frozen=True, slots=True)
class Example:
    """A query, its label, and what its log says about the answers.

    If the log does not have a text, it is empty; if it does not have a number, it is NaN.

    Attributes
    ----------
    id, query, group, domain, language, source, label_source : str
        `query` is never empty.
    needs_frontier : float
        The label, in [0, 1]; NaN if no rule makes one.
    unlabelled : str
        Why the example has no label; empty if it has one.
    weight : float
        Weight in training, above 0.
    cheap_score, frontier_score : float
        Quality of the two answers.
    ok_threshold : float
        A score of at least this much is a success.
    cheap_cost, frontier_cost : float
        Cost of the two answers, in any one currency.
    input_tokens, cheap_output_tokens, frontier_output_tokens : float
        Number of tokens that both models read, and the number that each of them writes.
    tier : {"cheap", "frontier", ""}
        The tier that answered, if the log is one-sided.
    outcome : float
        Quality of that answer.
    feedback : str
        What the reader of that answer did, as in `Outcomes`.
    propensity : float
        Probability with which the router chose that tier, in (0, 1]; NaN if the log does not state
        it, as it is never assumed.
    policy : str
        The version of the router that chose.
    time : str
        When the query was asked, as `utc_time` writes it.
    split : str
        One of `querytier.data.splits.SPLITS`; empty until splits are assigned.
    selected : {"random", "planned"}
        How the query was selected for labelling: at random, or by `querytier select-queries`. A
        planned example may be used for training, but not for evaluation.
    """

    id: str
    query: str
    needs_frontier: float
    unlabelled: str
    weight: float
    group: str
    domain: str
    language: str
    source: str
    label_source: str
    cheap_score: float
    frontier_score: float
    ok_threshold: float
    cheap_cost: float
    frontier_cost: float
    input_tokens: float
    cheap_output_tokens: float
    frontier_output_tokens: float
    tier: str
    outcome: float
    feedback: str
    propensity: float
    policy: str
    time: str = ""
    split: str = ""
    selected: str = "random"


_TIERS = {"cheap": "cheap", "frontier": "frontier"}
_FEEDBACK = get_args(Feedback)
# 1 and 0 as well as 1 and -1 are common codes of thumbs up and down.
_VOTES = {1.0: "thumbs_up", 0.0: "thumbs_down", -1.0: "thumbs_down"}
# The last two are the words of Chatbot Arena.
_WINNERS = {
    **{word: word for word in get_args(Winner)},
    "tie_(bothbad)": "both_bad",
    "bothbad": "both_bad",
}


def example_from(
    values: Mapping[str, object], rules: LabelRules, default_id: str, pair: ModelPair | None = None
) -> Example:
    """Return the example of a log record's mapped values.

    Parameters
    ----------
    values : mapping of str to object
        By field name, as `ColumnMap.values` returns them.
    rules : LabelRules
        How the label is made.
    default_id : str
        The id, if the record has none.
    pair : ModelPair, optional
        Turns names of models in `tier` and `winner` into tiers.

    Raises
    ------
    BadRecordError
        If the text view of the query is empty, a number or a time cannot be read, a number is out
        of range, or a word is unknown. A record without a label is not a bad record.
    """
    source = text_of(values, "source")
    outcomes = outcomes_in(values, pair)
    cheap_score, frontier_score, ok_threshold = scores_of(outcomes, rules.success_at(source))
    label, why = label_of(outcomes, rules, rules.success_at(source))
    labelled = not math.isnan(label)
    return Example(
        id=text_of(values, "id") or default_id,
        query=query_of(values),
        needs_frontier=label,
        unlabelled="" if labelled else why,
        weight=_weight(values),
        group=text_of(values, "group"),
        domain=text_of(values, "domain"),
        language=text_of(values, "language"),
        source=source,
        label_source=(text_of(values, "label_source") or why) if labelled else "",
        cheap_score=cheap_score,
        frontier_score=frontier_score,
        ok_threshold=ok_threshold,
        cheap_cost=_of_answer(values, "cost", "cheap", outcomes.tier),
        frontier_cost=_of_answer(values, "cost", "frontier", outcomes.tier),
        input_tokens=_not_below_zero(number_of(values, "input_tokens"), "input_tokens"),
        cheap_output_tokens=_of_answer(values, "output_tokens", "cheap", outcomes.tier),
        frontier_output_tokens=_of_answer(values, "output_tokens", "frontier", outcomes.tier),
        tier=outcomes.tier,
        outcome=outcomes.outcome,
        feedback=outcomes.feedback,
        propensity=_propensity(values),
        policy=text_of(values, "policy"),
        time=time_of(values),
        selected=_selected(values),
    )


def outcomes_in(values: Mapping[str, object], pair: ModelPair | None) -> Outcomes:
    """Return what a log record's mapped values say about the answers; raises as `example_from`."""
    label = number_of(values, "needs_frontier")
    if label < 0 or label > 1:
        raise BadRecordError(f"needs_frontier outside [0, 1]: {label}")
    return Outcomes(
        needs_frontier=label,
        cheap_score=number_of(values, "cheap_score"),
        frontier_score=number_of(values, "frontier_score"),
        cheap_grades=numbers_of(values, "cheap_grades"),
        frontier_grades=numbers_of(values, "frontier_grades"),
        winner=cast("Winner", _word_or_model(values, "winner", _WINNERS, pair)),
        tier=cast("Any", _word_or_model(values, "tier", _TIERS, pair)),
        outcome=number_of(values, "outcome"),
        feedback=cast("Feedback", feedback_of(values)),
    )


def feedback_of(values: Mapping[str, object]) -> str:
    """Return the feedback of a log record's mapped values as one of our words; empty without any.

    Raises
    ------
    BadRecordError
        If it is neither a known word, nor true or false.

    Examples
    --------
    >>> feedback_of({"feedback": "Thumbs-Up"}), feedback_of({"feedback": False})
    ('thumbs_up', 'thumbs_down')
    """
    word = word_of(values, "feedback")
    if not word or word in _FEEDBACK:
        return word
    try:
        return _VOTES[number_of(values, "feedback")]
    except (BadRecordError, KeyError):
        raise BadRecordError(
            f"feedback is not one of {', '.join(_FEEDBACK)}, true or false (map a rating as "
            f"outcome): {text_of(values, 'feedback')}"
        ) from None


def _word_or_model(
    values: Mapping[str, object], name: str, words: Mapping[str, str], pair: ModelPair | None
) -> str:
    """Return a field as one of our words, or as the tier of the model that it names."""
    word = word_of(values, name)
    if not word or word in words:
        return word and words[word]
    text = text_of(values, name)
    tier = pair.tier_of(text) if pair else None
    if tier is None:
        raise BadRecordError(
            f"{name} is not one of {', '.join(dict.fromkeys(words.values()))} or a model of the "
            f"pair (name the models with --cheap and --frontier): {text}"
        )
    return tier


def _weight(values: Mapping[str, object]) -> float:
    weight = number_of(values, "weight")
    if weight <= 0:
        raise BadRecordError(f"weight is not above 0: {weight}")
    return 1.0 if math.isnan(weight) else weight


def _propensity(values: Mapping[str, object]) -> float:
    propensity = number_of(values, "propensity")
    # 0 is refused: a tier with no chance cannot have been chosen, and 1 / 0 is not a weight.
    if propensity <= 0 or propensity > 1:
        raise BadRecordError(f"propensity outside (0, 1]: {propensity}")
    return propensity


def _selected(values: Mapping[str, object]) -> str:
    word = word_of(values, "selected")
    if word not in ("", "random", PLANNED):
        raise BadRecordError(f"selected is neither random nor planned: {word}")
    return word or "random"


def _of_answer(values: Mapping[str, object], name: str, tier: str, answered: str) -> float:
    """Return the cost or tokens of a tier's answer; plain `cost` belongs to the one given."""
    taken = number_of(values, f"{tier}_{name}")
    if math.isnan(taken) and tier == answered:
        taken = number_of(values, name)
    return _not_below_zero(taken, name)


def _not_below_zero(number: float, name: str) -> float:
    if number < 0:
        raise BadRecordError(f"{name} below 0: {number:g}")
    return number
