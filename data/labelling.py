"""The label of an example, made from what its log says about the answers: rules in order.

The first rule that has all it needs labels a record. A record that no rule can label is not a bad
record: it is kept, with the reason why it has no label.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

from querytier.data.column_map import ColumnMap
from querytier.data.label_rules import (
    Feedback,
    Winner,
    cheap_fails_frontier_succeeds,
    feedback,
    graded_samples,
    preference,
    quality_gap,
)
from querytier.errors import UsageError

__all__ = [
    "AUTOMATIC_RULES",
    "RULE_BIASES",
    "RULE_FIELDS",
    "LabelRules",
    "Outcomes",
    "RuleName",
    "label_of",
    "scores_of",
]

RuleName = Literal[
    "explicit",
    "graded_samples",
    "quality_gap",
    "cheap_fails_frontier_succeeds",
    "preference",
    "feedback",
]

# The fields that each rule reads; the column map must have one of the sets.
RULE_FIELDS: dict[RuleName, tuple[tuple[str, ...], ...]] = {
    "explicit": (("needs_frontier",),),
    "graded_samples": (("cheap_grades", "frontier_grades"),),
    "quality_gap": (("cheap_score", "frontier_score"),),
    "cheap_fails_frontier_succeeds": (("cheap_score", "frontier_score"),),
    "preference": (("winner",),),
    "feedback": (("tier", "feedback"), ("tier", "outcome")),
}
# The bias of each rule's labels, for readers of a report.
RULE_BIASES: dict[RuleName, str] = {
    "explicit": "as good as the people who wrote the labels; no outcome checks them",
    "graded_samples": "none, if the answers of the two models were drawn independently",
    "quality_gap": "rewards better answers, not good enough ones; a judge's noise raises labels",
    "cheap_fails_frontier_succeeds": "one answer of each model: the score of a second one is "
    "unknown",
    "preference": "a vote ranks two answers and grades neither; long answers win more votes",
    "feedback": "only queries that the cheap tier answered have a label; whether the frontier "
    "answer would have been better is unknown",
}
# quality_gap reads the same two scores as the rule before it, and needs a margin: only on request.
AUTOMATIC_RULES: tuple[RuleName, ...] = tuple(
    rule for rule in get_args(RuleName) if rule != "quality_gap"
)

_VOTE_SCORES: dict[Winner, tuple[float, float]] = {
    "frontier": (0.0, 1.0),
    "cheap": (1.0, 0.0),
    "tie": (0.5, 0.5),
    "both_bad": (0.0, 0.0),
}
# A tie is a success of both answers, as paying more bought nothing.
_VOTE_SUCCESS = 0.5


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a log record says about the answers to its query; NaN and empty by default.

    Attributes
    ----------
    needs_frontier : float
        The log's own label, in [0, 1].
    cheap_score, frontier_score : float
        Quality of the two answers, higher is better.
    cheap_grades, frontier_grades : tuple of float
        The same for several answers of each model.
    winner : {"frontier", "cheap", "tie", "both_bad", ""}
        The answer that a judge preferred.
    tier : {"cheap", "frontier", ""}
        The tier that answered, if the log is one-sided.
    outcome : float
        Quality of that answer.
    feedback : {"thumbs_up", "thumbs_down", "retry", "escalation", "human_takeover", ""}
        What the reader of that answer did.
    """

    needs_frontier: float = math.nan
    cheap_score: float = math.nan
    frontier_score: float = math.nan
    cheap_grades: tuple[float, ...] = ()
    frontier_grades: tuple[float, ...] = ()
    winner: Winner | Literal[""] = ""
    tier: Literal["cheap", "frontier", ""] = ""
    outcome: float = math.nan
    feedback: Feedback | Literal[""] = ""


@dataclass(frozen=True)
class LabelRules:
    """The rules that make labels, in their order, and what counts as success.

    Attributes
    ----------
    rules : sequence of str
        Names from `RULE_FIELDS`; the first rule that has all it needs labels a record.
    ok_threshold : float
        A score of at least this much is a success; in the unit of the log's scores.
    ok_thresholds : mapping of str to float
        Other thresholds by source (the field `source` of a record).
    margin : float or None
        The gap in score that `quality_gap` considers worth paying for.

    Raises
    ------
    UsageError
        If a rule does not exist, or `quality_gap` has no margin above 0.
    """

    rules: Sequence[RuleName] = AUTOMATIC_RULES
    ok_threshold: float = 0.5
    ok_thresholds: Mapping[str, float] = field(default_factory=dict)
    margin: float | None = None

    def __post_init__(self) -> None:
        for rule in self.rules:
            if rule not in RULE_FIELDS:
                raise UsageError(f"no label rule {rule!r}; choose from {', '.join(RULE_FIELDS)}")
        if "quality_gap" in self.rules and not (self.margin or 0) > 0:
            raise UsageError(
                f"the label rule quality_gap has the margin {self.margin}; set --margin above 0, "
                "to the gap in score that is worth paying for"
            )

    def with_automatic(self) -> Self:
        """Return these rules and the automatic ones, in their usual order."""
        rules = {*self.rules, *AUTOMATIC_RULES}
        return replace(self, rules=tuple(rule for rule in RULE_FIELDS if rule in rules))

    def behind(self, label_sources: Collection[str]) -> Self:
        """Return the rules that made the labels of these sources; all rules, if none did.

        If a source is not the name of a rule, the label came from the log, and the rule is
        explicit.

        Examples
        --------
        >>> LabelRules().behind(["feedback", "a rater"]).rules
        ('explicit', 'feedback')
        """
        given = any(source and source not in RULE_FIELDS for source in label_sources)
        names = {*label_sources, "explicit"} if given else set(label_sources)
        rules = tuple(rule for rule in self.rules if rule in names)
        return replace(self, rules=rules) if rules else self

    def success_at(self, source: str) -> float:
        """Return the lowest score that is a success, for the records of a source."""
        return self.ok_thresholds.get(source, self.ok_threshold)

    def served_by(self, columns: ColumnMap) -> Self:
        """Return the rules whose fields a column map has.

        Raises
        ------
        UsageError
            If there are none; the message says what each rule needs.
        """
        mapped = set(columns.paths)
        rules = [
            rule
            for rule in self.rules
            if any(mapped.issuperset(names) for names in RULE_FIELDS[rule])
        ]
        if rules:
            return replace(self, rules=tuple(rules))
        ways = "; or ".join(
            " and ".join(f"{name}=COLUMN" for name in names)
            for rule in self.rules
            for names in RULE_FIELDS[rule]
        )
        raise UsageError(
            f"no label can be made from the mapped columns ({', '.join(columns.paths)}); add {ways}"
        )


def label_of(outcomes: Outcomes, rules: LabelRules, ok_threshold: float) -> tuple[float, str]:
    """Return the label and the rule that made it; NaN and the reasons, if no rule can.

    Parameters
    ----------
    outcomes : Outcomes
    rules : LabelRules
    ok_threshold : float
        A score of at least this much is a success: `LabelRules.success_at` for the source.

    Returns
    -------
    label : float
        In [0, 1], or NaN.
    rule : str
        The name of the rule, or the reasons why there is no label.

    Examples
    --------
    >>> rules = LabelRules(("cheap_fails_frontier_succeeds", "feedback"))
    >>> label_of(Outcomes(cheap_score=0, frontier_score=1), rules, 0.5)
    (1.0, 'cheap_fails_frontier_succeeds')
    >>> label_of(Outcomes(tier="cheap", feedback="escalation"), rules, 0.5)
    (1.0, 'feedback')
    >>> label_of(Outcomes(tier="frontier", outcome=1), rules, 0.5)
    (nan, 'cheap_score missing; only the frontier answer known')
    """
    reasons: dict[str, None] = {}
    for rule in rules.rules:
        label = _label(rule, outcomes, rules.margin, ok_threshold)
        if not isinstance(label, str):
            return label, rule
        reasons[label] = None
    return math.nan, "; ".join(reasons)


def scores_of(outcomes: Outcomes, ok_threshold: float) -> tuple[float, float, float]:
    """Return the scores of both answers, and the lowest score that is a success.

    The score of several grades is their mean. A vote has the scores of a game, 1 for a win and 1/2
    for a draw (Elo 1978, The Rating of Chessplayers), or 0 twice if both answers are bad; of these,
    1/2 is a success.

    Examples
    --------
    >>> scores_of(Outcomes(winner="cheap"), 0.8)
    (1.0, 0.0, 0.5)
    """
    cheap, frontier = outcomes.cheap_score, outcomes.frontier_score
    if outcomes.cheap_grades and math.isnan(cheap):
        cheap = math.fsum(outcomes.cheap_grades) / len(outcomes.cheap_grades)
    if outcomes.frontier_grades and math.isnan(frontier):
        frontier = math.fsum(outcomes.frontier_grades) / len(outcomes.frontier_grades)
    if outcomes.winner and math.isnan(cheap) and math.isnan(frontier):
        return *_VOTE_SCORES[outcomes.winner], _VOTE_SUCCESS
    return cheap, frontier, ok_threshold


def _label(
    rule: RuleName, outcomes: Outcomes, margin: float | None, ok_threshold: float
) -> float | str:
    """Return the label by one rule, or the reason why it makes none."""
    label: float | None
    match rule:
        case "explicit":
            label, reason = outcomes.needs_frontier, "needs_frontier missing"
        case "graded_samples":
            label = graded_samples(outcomes.cheap_grades, outcomes.frontier_grades, ok_threshold)
            reason = f"{'frontier' if outcomes.cheap_grades else 'cheap'}_grades missing"
        case "preference":
            label = preference(outcomes.winner) if outcomes.winner else None
            reason = "winner missing"
        case "feedback":
            label, reason = _by_feedback(outcomes, ok_threshold)
        case _:
            cheap, frontier = outcomes.cheap_score, outcomes.frontier_score
            reason = f"{'cheap' if math.isnan(cheap) else 'frontier'}_score missing"
            if math.isnan(cheap + frontier):
                label = None
            elif rule == "quality_gap":
                assert margin is not None
                label = quality_gap(cheap, frontier, margin)
            else:
                label = cheap_fails_frontier_succeeds(cheap, frontier, ok_threshold)
    return reason if label is None or math.isnan(label) else label


def _by_feedback(outcomes: Outcomes, ok_threshold: float) -> tuple[float | None, str]:
    reaction = outcomes.feedback
    if not reaction and not math.isnan(outcomes.outcome):
        reaction = "thumbs_up" if outcomes.outcome >= ok_threshold else "thumbs_down"
    if not outcomes.tier or not reaction:
        return None, "outcome missing" if outcomes.tier else "tier missing"
    return feedback(outcomes.tier, reaction), "only the frontier answer known"
