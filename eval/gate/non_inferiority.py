"""Whether a challenger may replace the champion, judged on the same rows.

Non-inferiority: a challenger counts as no worse in a respect if the one-sided 95% interval of the
paired difference excludes a loss as large as a margin fixed beforehand (Blackwelder 1982, "Proving
the null hypothesis" in clinical trials; D'Agostino, Massaro & Sullivan 2003). With too few rows the
interval is wide and the champion stays, because finding no loss proves nothing. Even so, do not
compare on fewer than a few hundred rows: the bootstrap knows only differences that occur. If both
decide every row alike, the interval is a point, although up to 3 in n such queries may differ.

All conditions must hold (an intersection-union test, Berger 1982), so the chance of accepting a
challenger that is too bad in any one respect stays at that respect's 5%. Superiority is tested on
one metric, named beforehand, after non-inferiority is shown (Morikawa & Yoshida 1995), so it needs
no correction for multiple tests. Repeated use of the same rows does need one: each use is counted
and shown.
"""

from dataclasses import dataclass
from typing import Literal

from querytier.data.examples import Examples
from querytier.eval.gate.checks import Check, Gate
from querytier.eval.gate.comparisons import Comparison, Contender, Pair
from querytier.eval.intervals import Resampling

__all__ = ["Margins", "SuperiorOn", "compare"]

SuperiorOn = Literal["quality", "calibration", "worst_slice", "latency", "auroc"]

_TITLES = {
    "quality": "quality at matched cost",
    "calibration": "calibration",
    "worst_slice": "worst slice",
    "latency": "latency",
    "auroc": "AUROC",
}
# Two ways to compute a sum may differ in the last digit, in every replicate: that is not a lead.
_ROUNDING = 1e-9
# Higher is better for the other metrics. Latency is a ratio; 1 means equally fast.
_LOWER_IS_BETTER = ("calibration", "worst_slice", "latency")


@dataclass(frozen=True, slots=True)
class Margins:
    """The acceptable losses against the champion; each above 0.

    Attributes
    ----------
    quality : float
        Loss of mean score as routed; without scores, of the share of needs_frontier caught.
    calibration : float
        Increase of the Brier score.
    worst_slice : float
        Increase of the mean needs_frontier sent cheap in the worst slice.
    latency : float
        Excess of the ratio of median latencies over 1.
    """

    quality: float
    calibration: float
    worst_slice: float
    latency: float


def compare(
    examples: Examples,
    champion: Contender,
    challenger: Contender,
    margins: Margins,
    *,
    superior_on: SuperiorOn,
    fewest_slice_rows: int,
    replicates: int,
    seed: int,
) -> Gate:
    """Check that a challenger is no worse than the champion anywhere, and better on one metric.

    Quality and slices are compared at the champion's cost. What the challenger does at its own
    threshold is in the note, for people to judge.

    Parameters
    ----------
    examples : Examples, length n
        Rows that neither was trained on.
    champion, challenger : Contender
    margins : Margins
    superior_on : {"quality", "calibration", "worst_slice", "latency", "auroc"}
        The metric, named beforehand, on which the challenger must be better.
    fewest_slice_rows : int
        Smaller slices cannot be the worst.
    replicates, seed : int
        For the bootstrap over groups, and over timed queries.
    """
    resampling = Resampling(examples.group.tolist(), replicates, seed)
    pair = Pair(examples, champion, challenger, resampling, fewest_slice_rows)
    comparisons = {
        "quality": pair.quality(),
        "calibration": pair.calibration(),
        "worst_slice": pair.worst_slice(),
        "latency": pair.latency(),
    }
    checks = [
        _check(_TITLES[metric], comparison, _loss(metric, comparison), getattr(margins, metric))
        for metric, comparison in comparisons.items()
    ]
    # AUROC can be the metric to improve, but has no margin: quality at matched cost covers it.
    named = pair.auroc() if superior_on == "auroc" else comparisons[superior_on]
    title = f"superior on {_TITLES[superior_on]}"
    better = _check(title, named, _loss(superior_on, named) + _ROUNDING, 0.0)
    return Gate([*checks, better], pair.as_served())


def _loss(metric: str, comparison: Comparison) -> float:
    """Return how much worse the challenger may be, at the bad end of the interval."""
    low, high = comparison.estimate.low, comparison.estimate.high
    if low is None or high is None:
        return float("inf")
    return high - comparison.equal if metric in _LOWER_IS_BETTER else comparison.equal - low


def _check(name: str, comparison: Comparison, loss: float, margin: float) -> Check:
    # The interval has two one-sided 95% ends (a 90% interval); the check uses the bad one only.
    lead = comparison.estimate
    passed = loss < margin
    return Check(name, passed, comparison.detail, lead.value, lead.low, lead.high, margin)
