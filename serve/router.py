"""The router's side: load an artifact once, decide every query."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from querytier.classifier.runtime import Classifier
from querytier.classifier.threshold import tier_of
from querytier.data.text_view import text_view
from querytier.serve.decision import Decision, Reason

__all__ = ["Router"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Router:
    """Decides which tier answers a query. Threads may share it.

    Attributes
    ----------
    classifier : Classifier
    """

    classifier: Classifier

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Load an artifact.

        Parameters
        ----------
        path : Path or str
            The folder that `querytier run` or `querytier export` wrote.

        Raises
        ------
        ArtifactError
            If the folder is no artifact, or a file of it is missing or changed.
        """
        return cls(Classifier.load(path))

    def decide(self, query: str | Sequence[Mapping[str, object]]) -> Decision:
        """Decide a query; never raises.

        What the classifier cannot answer gets the artifact's fallback tier, with the reason.

        Parameters
        ----------
        query : str or sequence of mappings
            The query, or chat messages of which the last user turn is the query.
        """
        started = time.perf_counter()
        try:
            view = text_view(query)
            scores = self.classifier.scores(view) if view else None
        except Exception:  # noqa: BLE001 a router must get a tier whatever happens here
            _log.exception("the classifier failed; the fallback tier answers")
            return self._fallback("fallback:error", started)
        if scores is None:
            return self._fallback("fallback:empty", started)
        if not math.isfinite(scores.p_frontier + scores.decision_score):
            return self._fallback("fallback:error", started)
        manifest = self.classifier.manifest
        return Decision(
            tier=tier_of(scores.decision_score, manifest.threshold),
            p_frontier=scores.p_frontier,
            gain=scores.gain,
            decision_score=scores.decision_score,
            threshold=manifest.threshold,
            reason="classifier",
            model_version=manifest.model_version,
            latency_ms=_milliseconds_since(started),
        )

    def _fallback(self, reason: Reason, started: float) -> Decision:
        manifest = self.classifier.manifest
        return Decision(
            tier=manifest.fallback_tier,
            p_frontier=None,
            gain=None,
            decision_score=None,
            threshold=manifest.threshold,
            reason=reason,
            model_version=manifest.model_version,
            latency_ms=_milliseconds_since(started),
        )


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
