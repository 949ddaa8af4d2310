"""An artifact with another calibrator and threshold; what its graph ranks queries by stays.

The calibrator is the last thing that the graph does before the sigmoid, so that it can be taken out
and another one put in its place, whatever the encoder, its precision, or the head.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.artifact import (
    CARD,
    GOLDEN,
    MANIFEST,
    MODEL,
    TOKENIZER,
    artifact_files,
    file_sha256,
)
from querytier.classifier.export.model_card import model_card
from querytier.classifier.export.parity import Parity
from querytier.classifier.golden import golden_queries, replay_golden, write_golden
from querytier.classifier.graph_file import graph_sha256
from querytier.classifier.manifest import Certificate, Manifest, dump_manifest
from querytier.classifier.model.calibrator import Calibrator
from querytier.classifier.model.onnx_nodes import Nodes
from querytier.classifier.runtime import Classifier, open_session
from querytier.data.text_view import text_view
from querytier.errors import ArtifactError, ExportError
from querytier.files import atomic_folder

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["log_odds_before_calibration", "write_recalibrated"]

Floats = NDArray[np.float64]

_PART = "calibration"
_PARITY_VIEWS = 100
# Where the calibrated log-odds are float32, this is what rounding does to a probability.
_ROUNDING = 1e-5


def log_odds_before_calibration(folder: Path, views: Sequence[str]) -> Floats:
    """Return the head's log-odds of text views, as the served graph computes them, shape (n,).

    Raises
    ------
    ArtifactError
        If the folder is no artifact, or its graph ends otherwise than querytier exports it.
    """
    import onnxruntime as ort

    classifier, model = Classifier.load(folder), _model(folder / MODEL)
    source = _Ending(model).source
    _show(model, source)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = [session.run([source], classifier.feed(view))[0] for view in views]
    return np.array([float(one.ravel()[0]) for one in found], dtype=np.float64)


def write_recalibrated(
    source: Path,
    folder: Path,
    calibrator: Calibrator,
    threshold: float,
    *,
    certificate: Certificate,
    lineage: Mapping[str, Any],
) -> Manifest:
    """Write an artifact like another one, but for calibrator and threshold.

    Parameters
    ----------
    source : Path
        The artifact that is taken as it is, in any precision; it stays.
    folder : Path
        Appears complete, or what stood there before stays.
    calibrator : Calibrator
        From the head's log-odds to calibrated ones.
    threshold : float
        Of the decision score.
    certificate : Certificate
        A refused one: what was promised before does not hold for another calibration.
    lineage : mapping
        Fields of the manifest that say where it comes from: `label_rule`, `metrics`, `data`,
        `code`.

    Raises
    ------
    ArtifactError
        If the source is no artifact, or its graph ends otherwise than querytier exports it.
    ExportError
        If the graph strays from the calibrator.
    """
    before = Classifier.load(source)
    with atomic_folder(folder) as new:
        _write_graph(source / MODEL, new / MODEL, calibrator)
        if before.manifest.input == "token_ids":
            shutil.copy2(source / TOKENIZER, new / TOKENIZER)
        manifest = replace(
            before.manifest,
            model_version=graph_sha256(new / MODEL)[:12],
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            threshold=threshold,
            certificate=certificate,
            files={},
            **lineage,
        )
        classifier = Classifier(manifest, before.tokenizer, open_session(new / MODEL))
        parity = _check_parity(classifier, source, calibrator)
        numbers = {name: value for name, value in asdict(parity).items() if name != "worst_text"}
        manifest = replace(manifest, parity=numbers)
        write_golden(classifier, new / GOLDEN)
        (new / CARD).write_text(model_card(manifest), "utf-8")
        files = {name: file_sha256(new / name) for name in artifact_files(manifest.input)}
        manifest = replace(manifest, files=files)
        (new / MANIFEST).write_text(dump_manifest(manifest), "utf-8")
        replay_golden(Classifier.load(new), new / GOLDEN)
    return manifest


class _Ending:
    """The last nodes of a graph: head, calibrator, sigmoid.

    Attributes
    ----------
    sigmoid : NodeProto
    calibrator : list of NodeProto
        What stands between the head's log-odds and the sigmoid.
    source : str
        Name of the head's log-odds, of shape (n, 1).
    """

    def __init__(self, model: "ModelProto") -> None:
        self._made_by = {name: node for node in model.graph.node for name in node.output}
        self.sigmoid = self._before("p_frontier", "Identity", "Reshape", "Sigmoid")
        scale = self._before(self.sigmoid.input[0], "Gemm")
        self.calibrator = [scale]
        self.source = scale.input[0]
        parts = self._made_by.get(self.source)
        if parts is not None and parts.op_type == "Concat" and self._is_bent(parts):
            self._take_bent(parts)

    def _before(self, name: str, *operators: str) -> "NodeProto":
        """Follow the first inputs back from a value over these operators; return the last."""
        node: Any = None
        for operator in operators:
            node = self._made_by.get(name)
            if node is None or node.op_type != operator:
                raise ArtifactError(
                    f"the graph ends in {name!r} without the {operator} that querytier exports "
                    "there, so that its calibrator cannot be told from its head; train and export "
                    "again"
                )
            name = node.input[0]
        return cast("NodeProto", node)

    def _is_bent(self, parts: "NodeProto") -> bool:
        """Tell beta calibration's three columns from a head's features."""
        operators = [getattr(self._made_by.get(name), "op_type", "") for name in parts.input]
        return operators == ["Min", "Max", "Softplus"]

    def _take_bent(self, parts: "NodeProto") -> None:
        low, high, bend = (self._made_by[name] for name in parts.input)
        negated = self._made_by[bend.input[0]]
        size = self._made_by[negated.input[0]]
        self.calibrator += [parts, low, high, bend, negated, size]
        self.source = low.input[0]


def _write_graph(source: Path, path: Path, calibrator: Calibrator) -> None:
    import onnx

    model = _model(source)
    ending = _Ending(model)
    kept = [node for node in model.graph.node if node not in ending.calibrator]
    nodes = Nodes(_PART)
    calibrated = calibrator.add_to(nodes, ending.source)
    place = kept.index(ending.sigmoid)
    sigmoid = onnx.NodeProto()
    sigmoid.CopyFrom(ending.sigmoid)
    sigmoid.input[0] = calibrated
    _drop_constants(model, ending.calibrator)
    nodes.put_between(model, kept[:place], [sigmoid, *kept[place + 1 :]])
    # The certificate in it speaks of the calibration that is gone.
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _drop_constants(model: "ModelProto", gone: "Sequence[NodeProto]") -> None:
    """Leave out the constants that only nodes read which are gone: those of a calibrator."""
    unread = {name for node in gone for name in node.input}
    kept = [constant for constant in model.graph.initializer if constant.name not in unread]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _model(path: Path) -> "ModelProto":
    import onnx

    return onnx.load(path)


def _show(model: "ModelProto", name: str) -> None:
    """Make a value an output."""
    from onnx import TensorProto, helper

    shape: list[str | int | None] = ["batch", 1]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _check_parity(classifier: Classifier, source: Path, calibrator: Calibrator) -> Parity:
    """Compare the new graph with the calibrator, on what the old graph's head says."""
    distinct = dict.fromkeys(filter(None, map(text_view, golden_queries())))
    views = list(distinct)[:_PARITY_VIEWS]
    logits = calibrator.logits(log_odds_before_calibration(source, views))
    served = np.array([classifier.scores(view).p_frontier for view in views])
    apart = np.abs(served - 1 / (1 + np.exp(-logits)))
    worst = int(apart.argmax())
    if not apart[worst] <= _ROUNDING:
        raise ExportError(
            f"the graph strays from the calibrator by {apart[worst]:.2g} on "
            f"{views[worst][:200]!r}; no artifact was written"
        )
    return Parity(
        texts=len(views),
        max_difference=float(apart[worst]),
        mean_difference=float(apart.mean()),
        tolerance=_ROUNDING,
    )
