"""Staleness: an old threshold and old probabilities on labels of another pair of models."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from querytier.classifier.runtime import GraphOutputs
from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.eval.intervals import (
    Estimate,
    Resampling,
    clopper_pearson,
    one_row_per_group,
    undefined,
)
from querytier.eval.metrics import auroc, brier, ece

__all__ = ["Measured", "Share", "Staleness", "measure", "share_of", "staleness"]


@dataclass(frozen=True, slots=True)
class Share:
    """A share over one row per group, with its 95% interval (Clopper & Pearson 1934).

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
        """Return the share in percent."""
        return Estimate(self.value, self.low, self.high).text(".0%")

    def to_dict(self) -> dict[str, float]:
        """Return the share for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Measured:
    """The performance of probabilities and a threshold on labelled rows.

    Attributes
    ----------
    risk : Share or None
        Share of the queries sent cheap that needed the frontier model; None if none was sent cheap.
    frontier_rate : Share
    brier, ece, auroc : Estimate
        Estimates with intervals from the bootstrap over groups; the AUROC is that of the decision
        score.
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
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.to_dict() if isinstance(value, Share | Estimate) else value
            for name, value in values.items()
        }


@dataclass(frozen=True, eq=False)
class Staleness:
    """The promise of an old classifier, and what new labels show.

    Attributes
    ----------
    promised : float or None
        The largest risk according to its certificate; None if it promises nothing.
    rate_before : float or None
        Share of its training labels that needed the frontier model; None if not recorded.
    rate : Share
        The same share of the new labels.
    measured : Measured
        The old classifier on the new labels.
    """

    promised: float | None
    rate_before: float | None
    rate: Share
    measured: Measured

    @property
    def broken(self) -> bool:
        """Whether the whole interval of the risk is above the promised risk."""
        risk = self.measured.risk
        return self.promised is not None and risk is not None and risk.low > self.promised

    def lines(self) -> list[str]:
        """Return the result for a terminal."""
        now, rate = self.measured, self.rate.text()
        before = "" if self.rate_before is None else f"{self.rate_before:.0%} then, "
        calibration = (
            f"old calibration: predicts {now.mean_p_frontier:.0%} on average, and {rate} need the "
            f"frontier model; Brier {now.brier.text()}, ECE {now.ece.text()}; AUROC of the ranking "
            f"{now.auroc.text()}"
        )
        sent = now.frontier_rate.text()
        needs = f"needs frontier: {before}{rate} now; the old threshold sends {sent} to it"
        return [self._risk_line(), calibration, needs]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {
            "promised": self.promised,
            "broken": self.broken,
            "rate_before": self.rate_before,
            "rate": self.rate.to_dict(),
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


def staleness(
    examples: Examples,
    old: GraphOutputs,
    *,
    promised: float | None,
    rate_before: float | None,
    seed: int,
) -> Staleness:
    """Measure an old classifier on labels of another pair of models.

    Parameters
    ----------
    examples : Examples, length n
        Examples that its head was not trained on.
    old : GraphOutputs
        Outputs of the old classifier for these examples.
    promised, rate_before : float or None
        As in `Staleness`.
    seed : int
        Decides which row of each group counts, and the draws of the bootstrap.
    """
    rate = share_of(examples.needs_frontier[one_row_per_group(examples.group, seed)])
    return Staleness(promised, rate_before, rate, measure(examples, old, seed))


def measure(examples: Examples, outputs: GraphOutputs, seed: int) -> Measured:
    """Measure probabilities, ranking and threshold on labelled rows; see `staleness`."""
    one = one_row_per_group(examples.group, seed)
    labels, frontier = examples.needs_frontier, outputs.to_frontier
    resampling = Resampling(examples.group.tolist(), 1000, seed)

    def estimate(metric: Callable[[Floats, Floats, Floats], Floats], values: Floats) -> Estimate:
        if not len(labels):
            return undefined("there are no rows")
        return resampling.estimate(
            lambda weights: metric(values, labels, weights), "one class is missing"
        )

    # Shares count one row per group, as certificates do; scores use all rows and resample groups.
    cheap = labels[one][~frontier[one]]
    return Measured(
        risk=share_of(cheap) if len(cheap) else None,
        frontier_rate=share_of(frontier[one].astype(np.float64)),
        brier=estimate(brier, outputs.p_frontier),
        ece=estimate(ece, outputs.p_frontier),
        auroc=estimate(auroc, outputs.decision_scores),
        mean_p_frontier=float(outputs.p_frontier.mean()),
    )


def share_of(values: Floats) -> Share:
    """Return the mean of n values in [0, 1] with an interval, which is too wide for graded values.

    Examples
    --------
    >>> share_of(np.array([0.0, 0.0, 1.0, 0.0])).text()
    '25% (1% to 81%)'
    """
    hits, rows = float(values.sum()), len(values)
    return Share(hits / rows, *clopper_pearson(hits, rows), hits, rows)
