"""Decision flips: on how many texts two graphs decide differently, and whether that is too many."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.runtime import GraphOutputs

__all__ = ["FlipBudget", "FlipReport", "compare_decisions", "flip_interval"]

_CONFIDENCE = 0.95
_NEAR_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class FlipReport:
    """How far a graph's decisions and probabilities are from those of a reference.

    Attributes
    ----------
    texts : int
    flips : int
        Number of texts that go to another tier.
    flip_share : float
    low, high : float
        The exact 95% interval of the flip share (Clopper & Pearson 1934).
    near_threshold_texts, near_threshold_flips : int
        The tenth of the texts whose reference score is nearest to the reference threshold, ties
        included, and how many of them go to another tier.
    max_difference, mean_difference : float
        Absolute difference in p_frontier.
    """

    texts: int
    flips: int
    flip_share: float
    low: float
    high: float
    near_threshold_texts: int
    near_threshold_flips: int
    max_difference: float
    mean_difference: float


@dataclass(frozen=True, slots=True)
class FlipBudget:
    """The largest difference that a quantised graph may show (`export.drift` in params.yaml).

    Attributes
    ----------
    flip_share : float
        Limit for the upper end of the interval, not for the observed share: a small set must not
        pass by luck. Without a single flip among n texts the upper end is about 3.7 / n, so a
        budget of 0.01 needs at least 370 texts.
    max_difference, mean_difference : float
        Limits for p_frontier.
    """

    flip_share: float
    max_difference: float
    mean_difference: float

    def refusal(self, report: FlipReport) -> str | None:
        """Return which limits a report exceeds, with value and limit; None if it exceeds none.

        Examples
        --------
        >>> report = FlipReport(300, 3, 0.01, 0.0021, 0.0289, 30, 3, 0.04, 0.002)
        >>> FlipBudget(0.03, 0.02, 0.005).refusal(report)
        'the largest difference in p_frontier is 0.04, more than the 0.02 allowed'
        >>> FlipBudget(0.03, 0.05, 0.005).refusal(report) is None
        True
        """
        flips = f"{report.flips} of {report.texts} texts changed tier, so the flip share may be"
        limits = (
            (flips, report.high, self.flip_share),
            ("the largest difference in p_frontier is", report.max_difference, self.max_difference),
            ("the mean difference in p_frontier is", report.mean_difference, self.mean_difference),
        )
        exceeded = [
            f"{what} {value:.3g}, more than the {allowed:g} allowed"
            for what, value, allowed in limits
            if not value <= allowed
        ]
        return "; ".join(exceeded) or None


def compare_decisions(reference: GraphOutputs, other: GraphOutputs) -> FlipReport:
    """Compare the outputs of two graphs for the same texts, in the same order.

    Parameters
    ----------
    reference, other : GraphOutputs
        Each decides by its own threshold: what matters is which tier a query gets, and a quantised
        graph is calibrated again, which moves scores and threshold together.

    Raises
    ------
    ValueError
        If they differ in the number of texts, or have none.
    """
    texts = len(reference.p_frontier)
    if len(other.p_frontier) != texts or not texts:
        raise ValueError(
            f"the reference has {texts} texts and the other graph {len(other.p_frontier)}; run "
            "both on the same texts, at least one"
        )
    flipped = reference.to_frontier != other.to_frontier
    near = _near_threshold(reference)
    differences = np.abs(reference.p_frontier - other.p_frontier)
    low, high = flip_interval(int(flipped.sum()), texts)
    return FlipReport(
        texts=texts,
        flips=int(flipped.sum()),
        flip_share=float(flipped.mean()),
        low=low,
        high=high,
        near_threshold_texts=int(near.sum()),
        near_threshold_flips=int(flipped[near].sum()),
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
    )


def flip_interval(flips: int, texts: int) -> tuple[float, float]:
    """Return the exact 95% interval of a share (Clopper & Pearson 1934).

    Parameters
    ----------
    flips : int
        At most `texts`.
    texts : int
        At least 1.

    Examples
    --------
    >>> [round(end, 4) for end in flip_interval(0, 300)]
    [0.0, 0.0122]
    """
    from scipy.stats import binomtest

    ends = binomtest(flips, texts).proportion_ci(_CONFIDENCE, method="exact")
    return float(ends.low), float(ends.high)


def _near_threshold(outputs: GraphOutputs) -> NDArray[np.bool_]:
    # Flips are there: int8 changes 1 to 3% of all decisions, but 14 to 23% of this tenth.
    distances = np.abs(outputs.decision_scores - outputs.threshold)
    tenth = int(np.ceil(_NEAR_SHARE * len(distances)))
    return np.asarray(distances <= np.partition(distances, tenth - 1)[tenth - 1])
