"""From what a log tells of the answers to the label of an example: rules in order, by record.

A record is labelled by the first of the rules that has all it needs. A record that none can label
is no bad record: it keeps what is known of it, with the reason why it has no label.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
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

# The fields that each rule reads: one of the sets has to be in the column map.
RULE_FIELDS: dict[RuleName, tuple[tuple[str, ...], ...]] = {
    "explicit": (("needs_frontier",),),
    "graded_samples": (("cheap_grades", "frontier_grades"),),
    "quality_gap": (("cheap_score", "frontier_score"),),
    "cheap_fails_frontier_succeeds": (("cheap_score", "frontier_score"),),
    "preference": (("winner",),),
    "feedback": (("tier", "feedback"), ("tier", "outcome")),
}
# What a reader of a report has to know of the labels that a rule makes.
RULE_BIASES: dict[RuleName, str] = {
    "explicit": "as good as whoever wrote the labels; no outcome checks them",
    "graded_samples": "none, where the answers of the two models were drawn independently",
    "quality_gap": "asks for better, not for good enough; a judge's noise makes labels above 0",
    "cheap_fails_frontier_succeeds": "one answer of each model: what a second one would have "
    "scored is unknown",
    "preference": "a vote ranks two answers and grades neither; long answers win more votes",
    "feedback": "only queries that the cheap tier answered have a label; of its failures it is "
    "unknown whether the frontier answer would have done better",
}
# Both read the two scores: the gap is taken only by those who ask for it, and name a margin.
AUTOMATIC_RULES: tuple[RuleName, ...] = tuple(
    rule for rule in get_args(RuleName) if rule != "quality_gap"
)

_VOTE_SCORES: dict[Winner, tuple[float, float]] = {
    "frontier": (0.0, 1.0),
    "cheap": (1.0, 0.0),
    "tie": (0.5, 0.5),
    "both_bad": (0.0, 0.0),
}
_VOTE_SUCCESS = 0.5


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a log record tells of the answers to its query; NaN and empty where it does not.

    Attributes
    ----------
    needs_frontier : float
        A label that the log brings, in [0, 1].
    cheap_score, frontier_score : float
        Quality of the two answers, higher is better.
    cheap_grades, frontier_grades : tuple of float
        The same for several answers of each model.
    winner : {"frontier", "cheap", "tie", "both_bad", ""}
        What a judge preferred.
    tier : {"cheap", "frontier", ""}
        Which one answered, where the log is one-sided.
    outcome : float
        Quality of that answer.
    feedback : {"thumbs_up", "thumbs_down", "retry", "escalation", "human_takeover", ""}
        What its reader did.
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
    """Which rules make labels, in which order, and what counts as success.

    Attributes
    ----------
    rules : sequence of str
        Of `RULE_FIELDS`; the first that has all it needs makes a record's label.
    ok_threshold : float
        A score of at least this much counts as success; in the unit of the log's scores.
    ok_thresholds : mapping of str to float
        The same for single sources (the field `source` of a record).
    margin : float or None
        The gap that `quality_gap` finds worth paying for.

    Raises
    ------
    UsageError
        If there is no such rule, or `quality_gap` has no margin above 0.
    """

    rules: Sequence[RuleName] = AUTOMATIC_RULES
    ok_threshold: float = 0.5
    ok_thresholds: Mapping[str, float] = field(default_factory=dict)
    margin: float | None = None

    def __post_init__(self) -> None:
        for rule in self.rules:
            if rule not in RULE_FIELDS:
                raise UsageError(f"no label rule {rule!r}; rules are {', '.join(RULE_FIELDS)}")
        if "quality_gap" in self.rules and not (self.margin or 0) > 0:
            raise UsageError(
                f"the label rule quality_gap has the margin {self.margin}; give --margin, the gap "
                "in score that is worth paying for, above 0"
            )

    def with_automatic(self) -> Self:
        """Return the rules, and those that need no asking for, in their usual order."""
        rules = {*self.rules, *AUTOMATIC_RULES}
        return replace(self, rules=tuple(rule for rule in RULE_FIELDS if rule in rules))

    def behind(self, label_sources: Collection[str]) -> Self:
        """Return those of the rules that made labels of these sources; all where none did.

        A source that is no rule's name was given by the log with an explicit label.

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
        """Return the score from which an answer of a source's records counts as success."""
        return self.ok_thresholds.get(source, self.ok_threshold)

    def served_by(self, columns: ColumnMap) -> Self:
        """Return those of the rules that a column map can serve.

        Raises
        ------
        UsageError
            If it serves none; the message says what each would need.
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
            f"the column map ({', '.join(columns.paths)}) names nothing that makes a label; "
            f"add {ways}"
        )


def label_of(outcomes: Outcomes, rules: LabelRules, ok_threshold: float) -> tuple[float, str]:
    """Return the label and the rule that made it; NaN and the reason where none could.

    Parameters
    ----------
    outcomes : Outcomes
    rules : LabelRules
    ok_threshold : float
        A score of at least this much counts as success: `LabelRules.success_at` the source.

    Returns
    -------
    label : float
        In [0, 1], or NaN.
    rule : str
        The name of the rule, or the reasons why none made a label.

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
        label = _MAKERS[rule](outcomes, rules, ok_threshold)
        if not isinstance(label, str):
            return label, rule
        reasons[label] = None
    return math.nan, "; ".join(reasons)


def scores_of(outcomes: Outcomes, ok_threshold: float) -> tuple[float, float, float]:
    """Return the scores of both answers, and what counts as success among them.

    Several grades give their mean. A vote gives the scores of a game, 1 for a win and 1/2 for a
    draw (Elo 1978, The Rating of Chessplayers), or 0 for both where both were found bad; there 1/2
    is success.

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


def _by_label(outcomes: Outcomes, _rules: LabelRules, _ok: float) -> float | str:
    label = outcomes.needs_frontier
    return "needs_frontier missing" if math.isnan(label) else label


def _by_grades(outcomes: Outcomes, _rules: LabelRules, ok: float) -> float | str:
    label = graded_samples(outcomes.cheap_grades, outcomes.frontier_grades, ok)
    if label is not None:
        return label
    return f"{'frontier' if outcomes.cheap_grades else 'cheap'}_grades missing"


def _by_scores(outcomes: Outcomes, _rules: LabelRules, ok: float) -> float | str:
    cheap, frontier = outcomes.cheap_score, outcomes.frontier_score
    return _missing_score(outcomes) or cheap_fails_frontier_succeeds(cheap, frontier, ok)


def _by_gap(outcomes: Outcomes, rules: LabelRules, _ok: float) -> float | str:
    assert rules.margin is not None
    cheap, frontier = outcomes.cheap_score, outcomes.frontier_score
    return _missing_score(outcomes) or quality_gap(cheap, frontier, rules.margin)


def _by_vote(outcomes: Outcomes, _rules: LabelRules, _ok: float) -> float | str:
    return preference(outcomes.winner) if outcomes.winner else "winner missing"


def _by_feedback(outcomes: Outcomes, _rules: LabelRules, ok: float) -> float | str:
    said = outcomes.feedback
    if not said and not math.isnan(outcomes.outcome):
        said = "thumbs_up" if outcomes.outcome >= ok else "thumbs_down"
    if not outcomes.tier:
        return "tier missing"
    if not said:
        return "outcome missing"
    label = feedback(outcomes.tier, said)
    return "only the frontier answer known" if label is None else label


def _missing_score(outcomes: Outcomes) -> str:
    if math.isnan(outcomes.cheap_score):
        return "cheap_score missing"
    return "frontier_score missing" if math.isnan(outcomes.frontier_score) else ""


_MAKERS: dict[RuleName, Callable[[Outcomes, LabelRules, float], float | str]] = {
    "explicit": _by_label,
    "graded_samples": _by_grades,
    "cheap_fails_frontier_succeeds": _by_scores,
    "quality_gap": _by_gap,
    "preference": _by_vote,
    "feedback": _by_feedback,
}
