"""How stale a promise is: an old threshold and old probabilities on labels of another pair."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.threshold import goes_to_frontier
from querytier.data.examples import Examples
from querytier.eval.intervals import (
    Estimate,
    Resampling,
    clopper_pearson,
    one_row_per_group,
    undefined,
)
from querytier.eval.metrics import auroc, brier, ece

__all__ = ["Measured", "Share", "Staleness", "measured", "share_of", "staleness"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95% interval (Clopper & Pearson 1934), of one row per group.

    Attributes
    ----------
    value, low, high : float
    hits : float
    rows : int
    """

    value: float
    low: float
    high: float
    hits: float
    rows: int

    def text(self) -> str:
        """Return it in per cent."""
        return Estimate(self.value, self.low, self.high).text(".0%")


@dataclass(frozen=True, eq=False)
class Measured:
    """What probabilities and a threshold make of labelled rows.

    Attributes
    ----------
    risk : Share or None
        Share that needed the frontier model among those sent cheap; None where none is.
    frontier_rate : Share
    brier, ece, auroc : Estimate
        With intervals of the bootstrap over groups; the AUROC is that of the decision score.
    mean_p_frontier : float
    """

    risk: Share | None
    frontier_rate: Share
    brier: Estimate
    ece: Estimate
    auroc: Estimate
    mean_p_frontier: float

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        content: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Estimate):
                content[field.name] = value.to_dict()
            elif isinstance(value, Share):
                content[field.name] = {name: getattr(value, name) for name in Share.__slots__}
            else:
                content[field.name] = value
        return content


@dataclass(frozen=True, eq=False)
class Staleness:
    """What an old classifier promised, and what holds of it on new labels.

    Attributes
    ----------
    promised : float or None
        The risk that its certificate promises at the most; None where it promises nothing.
    rate_before : float or None
        Share of its training labels that needed the frontier model; None where it does not tell.
    rate : Share
        The same of the new labels.
    measured : Measured
        The old classifier on the new labels.
    """

    promised: float | None
    rate_before: float | None
    rate: Share
    measured: Measured

    @property
    def broken(self) -> bool:
        """Whether the risk is above what was promised, by its whole interval."""
        risk = self.measured.risk
        return self.promised is not None and risk is not None and risk.low > self.promised

    def lines(self) -> list[str]:
        """Return what there is to say of it."""
        return [self._risk_line(), self._calibration_line(), self._rate_line()]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "promised": self.promised,
            "broken": self.broken,
            "rate_before": self.rate_before,
            "rate": {name: getattr(self.rate, name) for name in Share.__slots__},
            **self.measured.to_dict(),
        }

    def _risk_line(self) -> str:
        risk = self.measured.risk
        if risk is None:
            return "old threshold: sends none of the new queries to the cheap model"
        found = f"{risk.text()} of {risk.rows} sent cheap needed the frontier model"
        if self.promised is None:
            return f"old threshold: promised nothing, now {found}"
        verdict = "broken" if self.broken else "not shown to be broken"
        return f"old promise: at most {self.promised:.0%}, now {found}: {verdict}"

    def _calibration_line(self) -> str:
        now = self.measured
        return (
            f"old calibration: says {now.mean_p_frontier:.0%} on average where {self.rate.text()} "
            f"need the frontier model; Brier {now.brier.text()}, ECE {now.ece.text()}; AUROC of "
            f"the ranking {now.auroc.text()}"
        )

    def _rate_line(self) -> str:
        before = "" if self.rate_before is None else f"{self.rate_before:.0%} then, "
        sent = self.measured.frontier_rate.text()
        return (
            f"needs frontier: {before}{self.rate.text()} now; the old threshold sends {sent} to it"
        )


def staleness(
    examples: Examples,
    p_frontier: Floats,
    decision_scores: Floats,
    *,
    threshold: float,
    promised: float | None,
    rate_before: float | None,
    seed: int,
) -> Staleness:
    """Measure an old classifier on labels that it has nothing to do with.

    Parameters
    ----------
    examples : Examples, length n
        None of them among the rows that its head learned from.
    p_frontier, decision_scores : ndarray of float64, shape (n,)
        Of the old classifier.
    threshold : float
        The old one.
    promised, rate_before : float or None
        As in `Staleness`.
    seed : int
        Which row of each group counts, and of the bootstrap.
    """
    found = measured(examples, p_frontier, decision_scores, threshold=threshold, seed=seed)
    one = one_row_per_group(examples.group, seed)
    rate = share_of(examples.needs_frontier[one])
    return Staleness(promised, rate_before, rate, found)


def measured(
    examples: Examples, p_frontier: Floats, decision_scores: Floats, *, threshold: float, seed: int
) -> Measured:
    """Measure probabilities, ranking and threshold on labelled rows; as `staleness`."""
    one = one_row_per_group(examples.group, seed)
    labels, frontier = examples.needs_frontier, goes_to_frontier(decision_scores, threshold)
    resampling = Resampling(examples.group.tolist(), 1000, seed)

    def estimate(metric: Callable[[Floats, Floats, Floats], Floats], values: Floats) -> Estimate:
        if not len(labels):
            return undefined("there are no rows")
        return resampling.estimate(
            lambda weights: metric(values, labels, weights), "one class is missing"
        )

    cheap = labels[one][~frontier[one]]
    return Measured(
        risk=share_of(cheap) if len(cheap) else None,
        frontier_rate=share_of(frontier[one].astype(np.float64)),
        brier=estimate(brier, p_frontier),
        ece=estimate(ece, p_frontier),
        auroc=estimate(auroc, decision_scores),
        mean_p_frontier=float(p_frontier.mean()),
    )


def share_of(values: Floats) -> Share:
    """Return the mean of n values in [0, 1] with an interval; graded ones make it too wide.

    Examples
    --------
    >>> share_of(np.array([0.0, 0.0, 1.0, 0.0])).text()
    '25% (1% to 81%)'
    """
    hits, rows = float(values.sum()), len(values)
    low, high = clopper_pearson(hits, rows)
    return Share(hits / rows, low, high, hits, rows)
