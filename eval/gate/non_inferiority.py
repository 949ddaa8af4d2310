"""Whether a challenger may take the champion's place, judged on the same rows.

Non-inferiority: a challenger counts as no worse in a respect where the one-sided 95% interval of
the paired difference excludes a loss as large as a margin that was stated beforehand (Blackwelder
1982, "Proving the null hypothesis" in clinical trials; D'Agostino, Massaro & Sullivan 2003). Too
few rows make the interval wide, and the champion stays: that no loss was found proves nothing. (The
bootstrap knows of differences only that it has met: where no row is decided otherwise the interval
is a point, though up to 3 in n such queries may have been missed. So do not judge on fewer than
some hundred rows.)

All conditions have to hold (an intersection-union test, Berger 1982), so the chance of letting in a
challenger that is too bad in any one respect stays at that respect's 5%. Superiority is asked of
one metric, named beforehand, once non-inferiority was shown (Morikawa & Yoshida 1995): hence no
multiplicity has to be paid for. Looking at the same rows time and again is another matter: each use
is counted, and shown.
"""

from dataclasses import dataclass
from typing import Literal

from querytier.data.examples import Examples
from querytier.eval.gate.absolute import Check, Gate
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
# Two ways to the same sum may differ in the last digit, in every replicate alike.
_ROUNDING = 1e-9
_LOWER_IS_BETTER = ("calibration", "worst_slice", "latency")


@dataclass(frozen=True, slots=True)
class Margins:
    """How much worse than the champion is still as good; each above 0.

    Attributes
    ----------
    quality : float
        Of the mean score as routed; without scores, of the share of needs_frontier that is caught.
    calibration : float
        Of the Brier score.
    worst_slice : float
        Of the mean needs_frontier that the worst slice sends cheap.
    latency : float
        Of the ratio of the medians, beyond 1.
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
    """Ask whether a challenger is nowhere worse than the champion, and better where it has to be.

    Quality and slices are compared at the champion's cost; what the challenger's own threshold does
    is in the note, and is for people to judge.

    Parameters
    ----------
    examples : Examples, length n
        That neither has learned from.
    champion, challenger : Contender
    margins : Margins
    superior_on : {"quality", "calibration", "worst_slice", "latency", "auroc"}
        The metric, named beforehand, on which the challenger has to be better.
    fewest_slice_rows : int
        Smaller slices cannot be the worst.
    replicates, seed : int
        Of the bootstrap over groups, and over timed queries.
    """
    resampling = Resampling(examples.group.tolist(), replicates, seed)
    pair = Pair(examples, champion, challenger, resampling, fewest_slice_rows)
    found = {
        "quality": pair.quality(),
        "calibration": pair.calibration(),
        "worst_slice": pair.worst_slice(),
        "latency": pair.latency(),
    }
    checks = [_no_worse(name, one, getattr(margins, name)) for name, one in found.items()]
    named = pair.auroc() if superior_on == "auroc" else found[superior_on]
    return Gate([*checks, _better(superior_on, named)], pair.as_served())


def _no_worse(metric: str, comparison: Comparison, margin: float) -> Check:
    """Ask that a loss as large as the margin is excluded."""
    return _check(_TITLES[metric], _worst_case(metric, comparison) < margin, comparison, margin)


def _better(metric: str, comparison: Comparison) -> Check:
    """Ask that it is better, whatever within the interval is true."""
    title = f"superior on {_TITLES[metric]}"
    return _check(title, _worst_case(metric, comparison) < -_ROUNDING, comparison, 0.0)


def _worst_case(metric: str, comparison: Comparison) -> float:
    """Return how much worse the challenger may be, at the bad end of the interval."""
    low, high = comparison.found.low, comparison.found.high
    if low is None or high is None:
        return float("inf")
    return high - comparison.equal if metric in _LOWER_IS_BETTER else comparison.equal - low


def _check(name: str, passed: bool, comparison: Comparison, margin: float) -> Check:
    found = comparison.found
    return Check(name, passed, comparison.words, found.value, found.low, found.high, margin)
