"""Drift: how far one graph's decisions and probabilities lie from another's, on the same texts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.threshold import goes_to_frontier

__all__ = ["Drift", "DriftBudget", "Said", "flip_interval", "measure_drift"]

Floats = NDArray[np.float64]

_CONFIDENCE = 0.95
_NEAR_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Said:
    """What a graph says of n texts.

    Attributes
    ----------
    p_frontier : ndarray of float64, shape (n,)
        Calibrated P(needs_frontier), in [0, 1].
    decision_scores : ndarray of float64, shape (n,)
        What is compared with the threshold.
    threshold : float
        This graph's own.

    Raises
    ------
    ValueError
        If the two arrays are not of one length, or hold what is no number.
    """

    p_frontier: Floats
    decision_scores: Floats
    threshold: float

    def __post_init__(self) -> None:
        if self.p_frontier.shape != self.decision_scores.shape or self.p_frontier.ndim != 1:
            raise ValueError(
                f"p_frontier of shape {self.p_frontier.shape} and decision scores of shape "
                f"{self.decision_scores.shape}; give one of each for every text"
            )
        if not np.isfinite([*self.p_frontier, *self.decision_scores, self.threshold]).all():
            raise ValueError("a probability, decision score or threshold is not finite")

    @property
    def to_frontier(self) -> NDArray[np.bool_]:
        """Which texts go to the frontier tier, shape (n,)."""
        return goes_to_frontier(self.decision_scores, self.threshold)


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a graph has drifted from the reference.

    Attributes
    ----------
    texts : int
    flips : int
        Texts that go to another tier.
    flip_share : float
    low, high : float
        The exact 95% interval of the flip share (Clopper & Pearson 1934).
    near_threshold_texts, near_threshold_flips : int
        The tenth of the texts whose reference score is nearest to the reference threshold, ties
        included, and how many of them go to another tier.
    max_difference, mean_difference : float
        Of p_frontier, without its sign.
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
class DriftBudget:
    """The most drift that is taken.

    Attributes
    ----------
    flip_share : float
        For the upper end of the interval, not for the share found: of 20 texts none may flip by
        luck where one in ten does, and a small set must not pass by luck. No flip among n texts has
        an upper end of about 3.7 / n, so a budget of 0.01 needs some 370 texts at the least.
    max_difference, mean_difference : float
        Of p_frontier.
    """

    flip_share: float
    max_difference: float
    mean_difference: float

    def refusal(self, drift: Drift) -> str | None:
        """Say which gates a drift fails, with what was found and what is allowed; None if none.

        Examples
        --------
        >>> drift = Drift(300, 3, 0.01, 0.0021, 0.0289, 30, 3, 0.04, 0.002)
        >>> DriftBudget(0.03, 0.02, 0.005).refusal(drift)
        'the largest difference of p_frontier is 0.04, more than the 0.02 allowed'
        >>> DriftBudget(0.03, 0.05, 0.005).refusal(drift) is None
        True
        """
        flips = f"{drift.flips} of {drift.texts} texts changed their tier, so the flip share is at"
        gates = (
            (f"{flips} most", drift.high, self.flip_share),
            ("the largest difference of p_frontier is", drift.max_difference, self.max_difference),
            ("the mean difference of p_frontier is", drift.mean_difference, self.mean_difference),
        )
        failed = [
            f"{what} {found:.3g}, more than the {allowed:g} allowed"
            for what, found, allowed in gates
            if not found <= allowed
        ]
        return "; ".join(failed) or None


def measure_drift(reference: Said, other: Said) -> Drift:
    """Compare what two graphs say of the same texts, in the same order.

    Parameters
    ----------
    reference, other : Said
        Each decides by its own threshold.

    Raises
    ------
    ValueError
        If they say something of different numbers of texts, or of none.
    """
    texts = len(reference.p_frontier)
    if len(other.p_frontier) != texts or not texts:
        raise ValueError(
            f"{texts} texts of the reference and {len(other.p_frontier)} of the other; ask both "
            "the same texts, at least one"
        )
    flipped = reference.to_frontier != other.to_frontier
    near = _near_threshold(reference)
    differences = np.abs(reference.p_frontier - other.p_frontier)
    low, high = flip_interval(int(flipped.sum()), texts)
    return Drift(
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
    from scipy.stats import beta

    tail = (1 - _CONFIDENCE) / 2
    low = beta.ppf(tail, flips, texts - flips + 1) if flips else 0.0
    high = beta.ppf(1 - tail, flips + 1, texts - flips) if flips < texts else 1.0
    return float(low), float(high)


def _near_threshold(said: Said) -> NDArray[np.bool_]:
    distances = np.abs(said.decision_scores - said.threshold)
    tenth = int(np.ceil(_NEAR_SHARE * len(distances)))
    return np.asarray(distances <= np.partition(distances, tenth - 1)[tenth - 1])
