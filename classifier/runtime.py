"""The part that serves: an artifact's graph, loaded once, run on one query at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.artifact import MODEL, TOKENIZER, verified_manifest
from querytier.classifier.manifest import Manifest
from querytier.classifier.threshold import goes_to_frontier
from querytier.classifier.tokens import ViewTokenizer
from querytier.data.arrays import Floats
from querytier.data.text_view import VIEW_VERSION, view_fingerprint
from querytier.errors import ArtifactError

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["Classifier", "GraphOutputs", "Scores", "open_session"]


@dataclass(frozen=True, slots=True)
class Scores:
    """The outputs of the graph for one query.

    Attributes
    ----------
    p_frontier : float
        Calibrated P(needs_frontier).
    gain : float or None
        P(frontier better) - P(cheap better); None if the graph does not rank by it.
    decision_score : float
        The score of these two that is compared with the threshold.
    typicality : float or None
        Conformal p-value in (0, 1]: at most this share of typical queries has a lower one. None if
        it was not requested.
    """

    p_frontier: float
    gain: float | None
    decision_score: float
    typicality: float | None = None


@dataclass(frozen=True, eq=False)
class GraphOutputs:
    """The outputs of a graph for n queries, and the threshold that turns them into decisions.

    Attributes
    ----------
    p_frontier : ndarray of float64, shape (n,)
        Calibrated P(needs_frontier), in [0, 1].
    decision_scores : ndarray of float64, shape (n,)
        The scores that are compared with the threshold.
    threshold : float

    Raises
    ------
    ValueError
        If the two arrays differ in length, or a value is not finite.
    """

    p_frontier: Floats
    decision_scores: Floats
    threshold: float

    def __post_init__(self) -> None:
        if self.p_frontier.shape != self.decision_scores.shape or self.p_frontier.ndim != 1:
            raise ValueError(
                f"p_frontier has shape {self.p_frontier.shape} and the decision scores "
                f"{self.decision_scores.shape}; give one of each for every query"
            )
        if not np.isfinite([*self.p_frontier, *self.decision_scores, self.threshold]).all():
            raise ValueError("a probability, decision score or threshold is not finite")

    @property
    def to_frontier(self) -> NDArray[np.bool_]:
        """Which queries go to the frontier tier, shape (n,)."""
        return goes_to_frontier(self.decision_scores, self.threshold)

    def where(self, rows: NDArray[np.bool_]) -> Self:
        """Return the outputs for some of the queries."""
        return type(self)(self.p_frontier[rows], self.decision_scores[rows], self.threshold)


@dataclass(frozen=True)
class Classifier:
    """A loaded artifact.

    Threads may share it: ONNX Runtime sessions and tokenizers can be called concurrently.

    Attributes
    ----------
    manifest : Manifest
    tokenizer : ViewTokenizer or None
        None if the graph reads text.
    session : onnxruntime.InferenceSession
    """

    manifest: Manifest
    tokenizer: ViewTokenizer | None
    session: "ort.InferenceSession"

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Verify every file of an artifact, then load it.

        Raises
        ------
        ArtifactError
            If the folder is not an artifact, was changed, or was trained on another text view.
        """
        folder = Path(folder)
        manifest = verified_manifest(folder)
        # The hash decides, not the version: old artifacts stay loadable after a refactoring that
        # changes no view, but not after a change without a new version.
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
    def has_typicality(self) -> bool:
        """Whether the graph can compute how typical a query is."""
        return "typicality" in {output.name for output in self.session.get_outputs()}

    def scores(self, view: str, *, typicality: bool = False) -> Scores:
        """Return the scores of a text view, with its typicality only if `typicality` is true."""
        by_gain = self.manifest.decision_score == "gain"
        names = ["p_frontier", *(["gain"] if by_gain else [])]
        values = self.run([*names, *(["typicality"] if typicality else [])], view)
        p_frontier, decision_score = float(values[0]), float(values[len(names) - 1])
        return Scores(
            p_frontier,
            decision_score if by_gain else None,
            decision_score,
            float(values[-1]) if typicality else None,
        )

    def embedding(self, view: str) -> NDArray[np.float32]:
        """Return the sentence embedding of a text view, of shape (dimension,)."""
        return np.asarray(self.run(["sentence_embedding"], view)[0], dtype=np.float32)

    def token_ids(self, view: str) -> list[int]:
        """Return the token ids that the encoder reads for a text view."""
        if self.tokenizer is not None:
            return self.tokenizer.token_ids(view)
        return [int(number) for number in self.run(["token_ids"], view)[0]]

    def feed(self, view: str) -> "dict[str, NDArray[Any]]":
        """Return a text view as the graph's input, by name."""
        if self.tokenizer is None:
            return {"text": np.array([view], dtype=object)}
        return {"token_ids": np.array([self.tokenizer.token_ids(view)], dtype=np.int64)}

    def run(self, outputs: Sequence[str], view: str) -> "list[NDArray[Any]]":
        """Run the graph on one text view; return the values of the named outputs for it.

        Always a single row: the scores of an int8 encoder depend on the padding and on the other
        rows of a batch (0.273 alone, 0.290 padded), and the export compared only single rows.
        """
        values = self.session.run(outputs, self.feed(view), _requested_outputs_only())
        return [value[0] for value in values]


@cache
def _requested_outputs_only() -> "ort.RunOptions":
    """Return options with which a run skips the nodes that no requested output needs."""
    import onnxruntime as ort

    # One object for all runs: making the options takes 2 us, and a static encoder decides in 24 us.
    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True
    return options


def open_session(model: Path) -> "ort.InferenceSession":
    """Open a graph with one thread.

    Raises
    ------
    ArtifactError
        If ONNX Runtime does not load the graph.
    """
    import onnxruntime as ort

    # A second thread is 1.3 to 1.8 times as fast on an idle machine, but both spin while they wait
    # and take twice as long next to a busy process. Requests run in parallel instead.
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors share no public base class
        raise ArtifactError(f"ONNX Runtime does not load {model}: {error}") from error
