"""The labelled queries that are nearest to a query: what a decision has been learned from.

An artifact holds no texts of a log. Who wants to see them names the prepared examples, and whoever
may ask the service then sees them, too.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.runtime import Classifier
from querytier.data.formats.reading import read_records
from querytier.data.text_view import text_view
from querytier.errors import MissingExtraError, UsageError
from querytier.serve.http.refusal import Refusal

__all__ = ["LabelledQueries", "Neighbours", "neighbours_answer"]

Vectors = NDArray[np.float32]

_log = logging.getLogger(__name__)

_EXCERPT = 300
_EXAMPLES = Path("data", "examples.parquet")


@dataclass(frozen=True, slots=True)
class LabelledQueries:
    """Queries whose label is known.

    Attributes
    ----------
    texts : tuple of str
    labels : tuple of float
        `needs_frontier`, in [0, 1].
    """

    texts: tuple[str, ...]
    labels: tuple[float, ...]

    @classmethod
    def read(cls, path: Path, most: int = 2000) -> Self:
        """Read the examples of the split `train`, or all where there are no splits.

        Parameters
        ----------
        path : Path
            The folder of a run, or a file with `query` and `needs_frontier`.
        most : int
            Of more, so many are taken, evenly over the file.

        Raises
        ------
        UsageError
            If there is nothing of the kind.
        MissingExtraError
            If it is a Parquet file, and pyarrow is not installed.
        """
        file = path / _EXAMPLES if path.is_dir() else path
        try:
            rows = [row for record in read_records(file) if (row := _labelled(record.fields))]
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "pyarrow", "train") from error
        except OSError as error:
            raise UsageError(f"no labelled queries can be read from {file}: {error}") from error
        if not rows:
            raise UsageError(
                f"{file} holds no labelled queries of the split train; give the folder of a run, "
                "or a file with query and needs_frontier"
            )
        places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
        texts, labels = zip(*(rows[place] for place in places), strict=True)
        return cls(texts, labels)


class Neighbours:
    """Finds neighbours by the cosine of the classifier's own embeddings; threads may share it.

    The labelled queries are embedded in a thread of its own, which ends with the process.

    Parameters
    ----------
    known : LabelledQueries
    classifier : Classifier
    """

    def __init__(self, known: LabelledQueries, classifier: Classifier) -> None:
        self._known, self._classifier = known, classifier
        self._vectors: Vectors | None = None
        Thread(target=self._embed_all, name="querytier-neighbours", daemon=True).start()

    @classmethod
    def of(cls, known: LabelledQueries | None, classifier: Classifier) -> Self | None:
        """Return the neighbours of labelled queries; None where there are none."""
        return None if known is None else cls(known, classifier)

    @property
    def ready(self) -> bool:
        """Whether all labelled queries are embedded."""
        return self._vectors is not None

    def __len__(self) -> int:
        return len(self._known.texts)

    def nearest(self, query: str, count: int) -> list[dict[str, Any]]:
        """Return the labelled queries nearest to a query, for JSON, the nearest first.

        Empty where the query is empty to the classifier, or the labelled ones are not embedded yet.
        """
        view = text_view(query)
        if not view or self._vectors is None:
            return []
        similarities = self._vectors @ _unit(self._classifier.embedding(view))
        return [
            {
                "query": _excerpt(self._known.texts[place]),
                "needs_frontier": self._known.labels[place],
                "similarity": round(float(similarities[place]), 6),
            }
            for place in np.argsort(-similarities, kind="stable")[:count]
        ]

    def _embed_all(self) -> None:
        try:
            vectors = [self._classifier.embedding(text_view(text)) for text in self._known.texts]
            self._vectors = np.stack([_unit(vector) for vector in vectors])
        except Exception:  # noqa: BLE001 who wants no neighbours is served all the same
            _log.exception("the labelled queries cannot be embedded; no neighbours are shown")


def neighbours_answer(found: Neighbours | None, query: str, count: int) -> dict[str, Any]:
    """Return the neighbours of a query, for JSON.

    Raises
    ------
    Refusal
        If none are shown, or the labelled queries are still being embedded.
    """
    if found is None:
        reason = "this service shows no labelled queries; start it with --neighbours RUN"
        raise Refusal(404, "no_neighbours", reason)
    if not found.ready:
        reason = "the labelled queries are being embedded; try again in some seconds"
        raise Refusal(503, "not_ready", reason)
    return {"neighbours": found.nearest(query, count), "known": len(found)}


def _labelled(fields: dict[str, Any] | None) -> tuple[str, float] | None:
    """Return a record's query and label; None where it is not one that may be shown."""
    if fields is None or (fields.get("split") or "train") != "train":
        return None
    query, label = fields.get("query"), fields.get("needs_frontier")
    if not isinstance(query, str) or not text_view(query) or not isinstance(label, int | float):
        return None
    return (query, float(label)) if 0 <= label <= 1 else None


def _unit(vector: Vectors) -> Vectors:
    length = np.linalg.norm(vector)
    return np.asarray(vector / (length or 1), dtype=np.float32)


def _excerpt(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _EXCERPT else f"{words[: _EXCERPT - 1]}…"
