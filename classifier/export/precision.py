"""The encoder's precision: the first one that decides like float32."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.export.flips import FlipBudget, FlipReport, compare_decisions
from querytier.classifier.export.quantisation import write_quantised
from querytier.classifier.manifest import Precision
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Blocks, Calibrated
from querytier.classifier.runtime import GraphOutputs, open_session
from querytier.data.parallel import map_threads
from querytier.errors import ExportError

__all__ = ["QUANTISED", "Encoded", "Quantising", "choose_precision", "traced_embeddings"]

# The faster one first: weights alone flip a third to a fifth as many decisions, but take 1.5 to 1.7
# times as long at 128 tokens.
QUANTISED: tuple[Precision, ...] = ("int8", "int8-weights")


@dataclass(frozen=True, eq=False)
class Quantising:
    """How a quantised encoder is calibrated again and checked.

    Attributes
    ----------
    precisions : tuple of Precision
        Tried in this order; the first one within the budget is used.
    views : sequence of str, length n
        Text views on which decisions are compared.
    embeddings : ndarray of float32, shape (n, dimension)
        Embeddings of the views by the encoder as it was fitted.
    recalibrated : callable
        Turns blocks of features of the views into heads and a threshold.
    budget : FlipBudget
    required : bool
        Whether it is an error if no precision is within the budget.
    """

    precisions: tuple[Precision, ...]
    views: Sequence[str]
    embeddings: NDArray[np.float32]
    recalibrated: Callable[[Blocks], Calibrated]
    budget: FlipBudget
    required: bool = False


@dataclass(frozen=True, eq=False)
class Encoded:
    """An encoder's graph in its final precision, with the calibration that belongs to it.

    Attributes
    ----------
    traced : Path
    precision : Precision
    calibrated : Calibrated
    report : dict
        Budget and trials, for the manifest.
    """

    traced: Path
    precision: Precision
    calibrated: Calibrated
    report: Mapping[str, Any]


def choose_precision(
    traced: Path, features: Features, fitted: Calibrated, quantising: Quantising | None
) -> Encoded:
    """Quantise an encoder, calibrate its heads again, and use it if it decides as before.

    Parameters
    ----------
    traced : Path
        The graph that `querytier.classifier.export.onnx_graph.trace` wrote; others are written to
        the same folder.
    features : Features
    fitted : Calibrated
        Heads and threshold for the encoder in float32.
    quantising : Quantising or None
        None keeps float32.

    Raises
    ------
    ExportError
        If a precision is required and none is within the budget.
    """
    if quantising is None:
        return Encoded(traced, "fp32", fitted, {"budget": {}, "trials": []})
    trials: list[dict[str, Any]] = []
    tried = {"budget": asdict(quantising.budget), "trials": trials}
    for precision in quantising.precisions:
        path = traced.with_name(f"{precision}.onnx")
        write_quantised(traced, path, precision)
        calibrated, report = _trial(path, features, fitted, quantising)
        refusal = quantising.budget.refusal(report)
        # The manifest calls the report "drift", as in artifacts of format 2.
        trials.append({"precision": precision, "drift": asdict(report), "refusal": refusal})
        if refusal is None:
            return Encoded(path, precision, calibrated, tried)
    if quantising.required:
        refusals = "; ".join(f"{trial['precision']}: {trial['refusal']}" for trial in trials)
        raise ExportError(
            f"the quantised encoder decides differently ({refusals}); set export.precision to "
            "fp32 or auto, or widen export.drift; no artifact was written"
        )
    return Encoded(traced, "fp32", fitted, tried)


def _trial(
    path: Path, features: Features, fitted: Calibrated, quantising: Quantising
) -> tuple[Calibrated, FlipReport]:
    before = features.from_embeddings(quantising.embeddings, quantising.views)
    after = features.from_embeddings(
        traced_embeddings(path, features, quantising.views), quantising.views
    )
    calibrated = quantising.recalibrated(after)
    return calibrated, compare_decisions(_outputs(fitted, before), _outputs(calibrated, after))


def _outputs(calibrated: Calibrated, blocks: Blocks) -> GraphOutputs:
    heads, threshold = calibrated.heads, calibrated.threshold
    return GraphOutputs(heads.p_frontier(blocks), heads.decision_scores(blocks), threshold)


def traced_embeddings(path: Path, features: Features, views: Sequence[str]) -> NDArray[np.float32]:
    """Return the embeddings of views by a traced graph, shape (n, dimension)."""
    session, tokenizer = open_session(path), features.encoder.tokenizer

    # One row at a time, as it serves: int8 embeddings depend on the rest of their batch.
    def embedding(view: str) -> NDArray[np.float32]:
        token_ids = np.array([tokenizer.token_ids(view)], dtype=np.int64)
        (values,) = session.run(["sentence_embedding"], {"token_ids": token_ids})
        return np.asarray(values[0], dtype=np.float32)

    return np.array(map_threads(embedding, views))
