"""The precision of an encoder: the smaller one, where it decides as the larger one does."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.export.flips import Drift, DriftBudget, Said, measure_drift
from querytier.classifier.export.quantisation import write_quantised
from querytier.classifier.manifest import Precision
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Blocks, Heads
from querytier.classifier.runtime import open_session
from querytier.errors import ExportError

__all__ = [
    "QUANTISED",
    "Calibrated",
    "Encoded",
    "Quantising",
    "choose_precision",
    "traced_embeddings",
]

# The faster one first.
QUANTISED: tuple[Precision, ...] = ("int8", "int8-weights")


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Heads with their calibration, and the threshold that goes with them.

    Attributes
    ----------
    heads : Heads
    threshold : float
    """

    heads: Heads
    threshold: float


@dataclass(frozen=True, eq=False)
class Quantising:
    """What a quantised encoder is calibrated again with, and judged by.

    Attributes
    ----------
    precisions : tuple of Precision
        To be tried, in this order; the first within the budget is taken.
    views : sequence of str, length n
        Text views that decisions are compared on; some of them lie near the threshold.
    embeddings : ndarray of float32, shape (n, dimension)
        Theirs, by the encoder as it was fitted.
    recalibrated : callable
        From blocks of features of these views to heads and threshold.
    budget : DriftBudget
    required : bool
        Whether it is an error that none is within the budget.
    """

    precisions: tuple[Precision, ...]
    views: Sequence[str]
    embeddings: NDArray[np.float32]
    recalibrated: Callable[[Blocks], Calibrated]
    budget: DriftBudget
    required: bool = False


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoder's graph in its final precision, and what belongs to it.

    Attributes
    ----------
    traced : Path
    precision : Precision
    calibrated : Calibrated
    report : dict
        What was tried, for the manifest.
    """

    traced: Path
    precision: Precision
    calibrated: Calibrated
    report: Mapping[str, Any]


def choose_precision(
    traced: Path, features: Features, fitted: Calibrated, quantising: Quantising | None
) -> Encoded:
    """Quantise an encoder, calibrate on what it then says, and keep it if it decides as before.

    The quantised encoder is asked row by row, as it serves: dynamic quantisation makes what it says
    of a query depend on the others of its batch.

    Parameters
    ----------
    traced : Path
        What `querytier.classifier.export.onnx_graph.trace` wrote; others are written beside it.
    features : Features
    fitted : Calibrated
        For the encoder as it is.
    quantising : Quantising or None
        None leaves it as it is.

    Raises
    ------
    ExportError
        If the precision asked for strays further than the budget.
    """
    trials: list[dict[str, Any]] = []
    budget = asdict(quantising.budget) if quantising else {}
    for precision in quantising.precisions if quantising else ():
        assert quantising is not None
        path = traced.with_name(f"{precision}.onnx")
        write_quantised(traced, path, precision)
        calibrated, drift = _tried(path, features, fitted, quantising)
        refusal = quantising.budget.refusal(drift)
        trials.append({"precision": precision, "drift": asdict(drift), "refusal": refusal})
        if refusal is None:
            report = {"budget": budget, "trials": trials}
            return Encoded(path, precision, calibrated, report)
    if quantising and quantising.required:
        refusals = "; ".join(f"{trial['precision']}: {trial['refusal']}" for trial in trials)
        raise ExportError(
            f"the quantised encoder decides otherwise ({refusals}); set export.precision to fp32 "
            "or auto, or widen export.drift; no artifact was written"
        )
    return Encoded(traced, "fp32", fitted, {"budget": budget, "trials": trials})


def _tried(
    path: Path, features: Features, fitted: Calibrated, quantising: Quantising
) -> tuple[Calibrated, Drift]:
    before = features.beside(quantising.embeddings, quantising.views)
    after = features.beside(traced_embeddings(path, features, quantising.views), quantising.views)
    calibrated = quantising.recalibrated(after)
    drift = measure_drift(_said(fitted, before), _said(calibrated, after))
    return calibrated, drift


def _said(calibrated: Calibrated, blocks: Blocks) -> Said:
    heads = calibrated.heads
    return Said(heads.p_frontier(blocks), heads.decision_scores(blocks), calibrated.threshold)


def traced_embeddings(path: Path, features: Features, views: Sequence[str]) -> NDArray[np.float32]:
    """Return the embeddings of views by a traced graph, one by one; shape (n, dimension)."""
    session, tokenizer = open_session(path), features.encoder.tokenizer

    def embedding(view: str) -> NDArray[np.float32]:
        token_ids = np.array([tokenizer.token_ids(view)], dtype=np.int64)
        (values,) = session.run(["sentence_embedding"], {"token_ids": token_ids})
        return np.asarray(values[0], dtype=np.float32)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return np.array(list(threads.map(embedding, views)))
