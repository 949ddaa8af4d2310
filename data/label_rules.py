"""Label rules: from the outcomes of a log record to `needs_frontier`.

`querytier.data.labelling` chooses the rule for a record.
"""

from collections.abc import Sequence
from typing import Literal

__all__ = [
    "Feedback",
    "Winner",
    "cheap_fails_frontier_succeeds",
    "feedback",
    "graded_samples",
    "preference",
    "quality_gap",
]

Winner = Literal["frontier", "cheap", "tie", "both_bad"]
Feedback = Literal["thumbs_up", "thumbs_down", "retry", "escalation", "human_takeover"]

# In seven sets of real outcomes the frontier model succeeded on 48% to 80% (median 68%) of the
# queries on which the cheap one had failed.
_FRONTIER_MENDS = 2 / 3
_AFTER_CHEAP: dict[Feedback, float] = {
    "thumbs_up": 0.0,
    "thumbs_down": _FRONTIER_MENDS,
    "retry": _FRONTIER_MENDS,
    "escalation": 1.0,
    "human_takeover": _FRONTIER_MENDS,
}
# Ties and two bad answers are 0: paying more would not have changed the user's result.
_WINNERS: dict[Winner, float] = {"frontier": 1.0, "cheap": 0.0, "tie": 0.0, "both_bad": 0.0}


def cheap_fails_frontier_succeeds(
    cheap_score: float, frontier_score: float, ok_threshold: float
) -> float:
    """Return 1.0 if the cheap answer fails and the frontier answer succeeds, else 0.0.

    If both fail, paying more buys nothing: the label is 0, and such rows are counted separately. On
    RouteLLM's outcomes of MMLU this label alone moved the APGR of a linear head on a frozen
    embedding from about 0.59 to 0.63.

    Parameters
    ----------
    cheap_score, frontier_score : float
        Scores of the two answers, higher is better.
    ok_threshold : float
        A score of at least this much is a success.

    Examples
    --------
    >>> [cheap_fails_frontier_succeeds(c, f, 0.5) for c, f in [(0, 1), (0, 0), (1, 0), (0.5, 1)]]
    [1.0, 0.0, 0.0, 0.0]
    """
    return float(cheap_score < ok_threshold <= frontier_score)


def quality_gap(cheap_score: float, frontier_score: float, margin: float) -> float:
    """Return the lead of the frontier answer as a share of a margin: a soft label.

    It is 0 without a lead, 1 from `margin` on, and linear in between. The quality gap is that of
    Ding et al. 2024 (Hybrid LLM, arXiv:2404.14618), who relax it by a margin and cut it. The ramp
    keeps the information that the cut discards, and a judge's noise cannot flip its labels.

    Bias: it rewards better answers, not good enough ones, so a frontier answer that improves on a
    sufficient cheap one counts, and so does one that is less bad. A single score is noisy: for two
    equally good models, noise alone makes labels above 0, and never below.

    Parameters
    ----------
    cheap_score, frontier_score : float
        Scores of the two answers, higher is better.
    margin : float
        The gap in score that is worth paying for, above 0.

    Raises
    ------
    ValueError
        If the margin is not above 0.

    Examples
    --------
    >>> [quality_gap(5, frontier, 2) for frontier in (4, 5, 6, 7, 9)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin}; a gap needs a margin above 0 to be worth paying for")
    return float(min(max((frontier_score - cheap_score) / margin, 0.0), 1.0))


def preference(winner: Winner) -> float:
    """Return 1.0 if a judge prefers the frontier answer, and 0.0 for a cheap win or a tie.

    Votes are read as by Ong et al. 2024 (RouteLLM, arXiv:2406.18665): paying more is worth it only
    for a win. If both answers are bad, paying more buys nothing, as in
    `cheap_fails_frontier_succeeds`.

    Bias: a vote ranks two answers and grades neither. A preferred frontier answer does not mean
    that the cheap one failed, so the label overstates the need. Human and model judges favour long
    and well-formatted answers (Zheng et al. 2023, arXiv:2306.05685), which adds to it.

    Parameters
    ----------
    winner : {"frontier", "cheap", "tie", "both_bad"}

    Raises
    ------
    ValueError
        If the winner is none of these.

    Examples
    --------
    >>> [preference(winner) for winner in ("frontier", "cheap", "tie", "both_bad")]
    [1.0, 0.0, 0.0, 0.0]
    """
    if winner not in _WINNERS:
        raise ValueError(f"winner is {winner!r}; it is one of {', '.join(_WINNERS)}")
    return _WINNERS[winner]


def graded_samples(
    cheap_grades: Sequence[float], frontier_grades: Sequence[float], ok_threshold: float
) -> float | None:
    """Return P(cheap fails) * P(frontier succeeds) over several answers of each: a soft label.

    It is the expectation of `cheap_fails_frontier_succeeds` if both models answer at random, and
    equals it with one answer of each. Using several answers per query follows Ding et al. 2024
    (Hybrid LLM, arXiv:2404.14618).

    Bias: none, if the answers of the two models are drawn independently of each other; a judge who
    sees both, or a cache that returns one answer several times, breaks that. Few answers make it
    coarse: with three of each it has seven values.

    Parameters
    ----------
    cheap_grades, frontier_grades : sequence of float
        A grade for each answer, higher is better.
    ok_threshold : float
        A grade of at least this much counts as success.

    Returns
    -------
    float or None
        In [0, 1]; None if one of the models has no graded answer.

    Examples
    --------
    >>> graded_samples([0.2, 0.9], [0.8, 0.9, 0.7, 0.1], ok_threshold=0.5)
    0.375
    >>> graded_samples([0.2, 0.9], [], ok_threshold=0.5) is None
    True
    """
    if not (cheap_grades and frontier_grades):
        return None
    return (1 - _share_ok(cheap_grades, ok_threshold)) * _share_ok(frontier_grades, ok_threshold)


def feedback(tier: Literal["cheap", "frontier"], outcome: Feedback) -> float | None:
    """Return the label that follows from feedback on the one answer given, or None.

    Logs of real routers are one-sided: they have the outcome of the tier that answered and no other
    (bandit feedback: Swaminathan and Joachims 2015, JMLR 16:1731).

    ================  ======  ====================================================================
    after cheap       label   bias
    ================  ======  ====================================================================
    thumbs_up         0       people also like wrong answers; the few who vote are not typical
    thumbs_down       2/3     the cheap answer failed, the frontier one is unknown; anger at the
                              product counts too
    retry             2/3     overstated: a retry may only ask for another wording
    escalation        1       overstated: assumes that the frontier answer then satisfied, and
                              that whoever escalated was right (if both outcomes are known, use
                              `cheap_fails_frontier_succeeds`)
    human_takeover    2/3     overstated: some want a person whatever the answer, and what a person
                              has to take over is often beyond both models
    ================  ======  ====================================================================

    2/3 is P(frontier succeeds | cheap fails) in round numbers: in seven sets of real outcomes it
    was between 0.48 and 0.80, median 0.68. If you know it for your models, use explicit labels.

    After a frontier answer there is no label. A satisfied user says nothing about the cheap answer.
    A dissatisfied one does (the label would be 0, as paying more bought nothing), but labelling
    only the failures would teach that queries which the old router sent to the frontier tier do not
    need it.

    Parameters
    ----------
    tier : {"cheap", "frontier"}
        The tier that answered first.
    outcome : {"thumbs_up", "thumbs_down", "retry", "escalation", "human_takeover"}

    Raises
    ------
    ValueError
        If tier or outcome is none of these.

    Examples
    --------
    >>> feedback("cheap", "escalation"), feedback("cheap", "thumbs_up")
    (1.0, 0.0)
    >>> feedback("frontier", "thumbs_up") is None
    True
    """
    if outcome not in _AFTER_CHEAP:
        raise ValueError(f"outcome is {outcome!r}; it is one of {', '.join(_AFTER_CHEAP)}")
    if tier not in {"cheap", "frontier"}:
        raise ValueError(f"tier is {tier!r}; it is cheap or frontier")
    return _AFTER_CHEAP[outcome] if tier == "cheap" else None


def _share_ok(grades: Sequence[float], ok_threshold: float) -> float:
    return sum(grade >= ok_threshold for grade in grades) / len(grades)
