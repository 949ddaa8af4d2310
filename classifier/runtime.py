"""The in-path half: an artifact's graph, loaded once, asked row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.artifact import MODEL, TOKENIZER, verified_manifest
from querytier.classifier.manifest import Manifest
from querytier.classifier.tokens import ViewTokenizer
from querytier.data.text_view import VIEW_VERSION, view_fingerprint
from querytier.errors import ArtifactError

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["Classifier", "Scores", "open_session"]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a graph says of a query.

    Attributes
    ----------
    p_frontier : float
        Calibrated P(needs_frontier).
    gain : float or None
        P(frontier better) - P(cheap better); None where the graph has no such output.
    decision_score : float
        The one of them that is compared with the threshold.
    typicality : float or None
        Of typical queries, a share of at most this much has a lower one; None where it was not
        asked for.
    """

    p_frontier: float
    gain: float | None
    decision_score: float
    typicality: float | None = None


@dataclass(frozen=True)
class Classifier:
    """A loaded artifact.

    Threads may share it: ONNX Runtime sessions and tokenizers are safe to call at once.

    Attributes
    ----------
    manifest : Manifest
    tokenizer : ViewTokenizer or None
        None where the graph reads text.
    session : onnxruntime.InferenceSession
    """

    manifest: Manifest
    tokenizer: ViewTokenizer | None
    session: "ort.InferenceSession"

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Load an artifact after verifying every file of it.

        Raises
        ------
        ArtifactError
            If the folder is no artifact, was changed, or was trained on another text view.
        """
        folder = Path(folder)
        manifest = verified_manifest(folder)
        if manifest.text_view.sha256 != view_fingerprint():
            raise ArtifactError(
                f"{folder} was trained on text view {manifest.text_view.version} "
                f"({manifest.text_view.sha256[:12]}), this querytier has {VIEW_VERSION} "
                f"({view_fingerprint()[:12]}): retrain, or install the querytier that trained it"
            )
        tokenizer = None
        if manifest.input == "token_ids":
            tokenizer = ViewTokenizer((folder / TOKENIZER).read_text("utf-8"), manifest.max_tokens)
        return cls(manifest, tokenizer, open_session(folder / MODEL))

    @cached_property
    def tells_typicality(self) -> bool:
        """Whether the graph can tell how typical a query is."""
        return "typicality" in {output.name for output in self.session.get_outputs()}

    def scores(self, view: str, *, typicality: bool = False) -> "Scores":
        """Return what the graph says of a text view; how typical it is where that is asked for."""
        by_gain = self.manifest.decision_score == "gain"
        asked = ["p_frontier", *(["gain"] if by_gain else [])]
        values = self._run([*asked, *(["typicality"] if typicality else [])], view)
        p_frontier, decision_score = float(values[0][0]), float(values[len(asked) - 1][0])
        return Scores(
            p_frontier,
            decision_score if by_gain else None,
            decision_score,
            float(values[-1][0]) if typicality else None,
        )

    def embedding(self, view: str) -> NDArray[np.float32]:
        """Return the sentence embedding of a text view, of shape (dimension,)."""
        return np.asarray(self._run(["sentence_embedding"], view)[0][0], dtype=np.float32)

    def token_ids(self, view: str) -> list[int]:
        """Return the token ids that the encoder sees of a text view."""
        if self.tokenizer is not None:
            return self.tokenizer.token_ids(view)
        return [int(number) for number in self._run(["token_ids"], view)[0][0]]

    def feed(self, view: str) -> "dict[str, NDArray[Any]]":
        """Return a text view as the graph's input, by its name."""
        if self.tokenizer is None:
            return {"text": np.array([view], dtype=object)}
        return {"token_ids": np.array([self.tokenizer.token_ids(view)], dtype=np.int64)}

    def _run(self, outputs: Sequence[str], view: str) -> "list[NDArray[Any]]":
        values: list[NDArray[Any]] = self.session.run(
            outputs, self.feed(view), _only_what_is_asked()
        )
        return values


@cache
def _only_what_is_asked() -> "ort.RunOptions":
    """Return options by which a run computes the outputs it is asked for, and no others."""
    import onnxruntime as ort

    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True
    return options


def open_session(model: Path) -> "ort.InferenceSession":
    """Open a graph with one thread, so that a busy neighbour costs no more than its share.

    Raises
    ------
    ArtifactError
        If ONNX Runtime does not take the graph.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors share no public base class
        raise ArtifactError(f"{model} is not a graph that ONNX Runtime takes: {error}") from error
