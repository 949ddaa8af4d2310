"""LiteLLM's socket: the classifier plugin of its complexity router.

In the proxy's configuration (`examples/litellm/config.yaml` is a whole one)::

    complexity_router_config:
      classifier_type: custom
      classifier_plugin: querytier.serve.plugins.litellm.classifier
      tiers: {SIMPLE: small-model, REASONING: large-model}
      tier_labels: {SIMPLE: cheap, REASONING: frontier}
      classifier_fallback: default_model
      default_model: large-model

The artifact's folder is in the environment variable `QUERYTIER_ARTIFACT`, that of a decision log,
where one is wanted, in `QUERYTIER_LOG`; the artifact is loaded when LiteLLM
looks `classifier` up, so that a proxy whose artifact is missing or damaged does not start. Programs
that call `litellm.Router` themselves pass `TierClassifier(Router.load(path))`; a module beside the
proxy's configuration may hold the same under a name of its own.

LiteLLM is not imported here: a plugin is whatever has an async `classify`.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, Self

from querytier.classifier.threshold import Tier
from querytier.errors import UsageError
from querytier.serve.log.decision_log import DecisionLog
from querytier.serve.router import Router

__all__ = ["ARTIFACT_VARIABLE", "LOG_VARIABLE", "TierClassifier"]

ARTIFACT_VARIABLE, LOG_VARIABLE = "QUERYTIER_ARTIFACT", "QUERYTIER_LOG"


class RoutingContext(Protocol):
    """What LiteLLM tells a plugin of a request; `litellm.types.router.RoutingContext`."""

    @property
    def structured_messages(self) -> Sequence[Mapping[str, object]]:
        """The request as chat messages, from whichever API it came."""


@dataclass(frozen=True)
class TierClassifier:
    """Names the tier of a request.

    Attributes
    ----------
    router : Router
    log : DecisionLog or None
        Gets the decisions.
    """

    router: Router
    log: DecisionLog | None = None

    async def classify(self, context: RoutingContext) -> Tier:
        """Return the decided tier: the fallback tier where the classifier cannot answer.

        Never None, which would hand the query to LiteLLM's own keyword scores wherever
        `classifier_fallback` is left at its default.

        Parameters
        ----------
        context : RoutingContext
        """
        # In a thread, so that the proxy goes on with its other requests and its timeout can fire.
        query = context.structured_messages
        decision = await asyncio.to_thread(self.router.decide, query)
        if self.log is not None:
            self.log.append(decision, query)
        return decision.tier

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return itself: LiteLLM copies its list of models, and a loaded model is not copied."""
        return self


@cache
def _from_environment() -> TierClassifier:
    folder = os.environ.get(ARTIFACT_VARIABLE)
    if not folder:
        raise UsageError(
            f"{ARTIFACT_VARIABLE} is not set: give it the folder that `querytier run` or "
            "`querytier export` wrote"
        )
    log = os.environ.get(LOG_VARIABLE)
    return TierClassifier(Router.load(folder), DecisionLog(Path(log)) if log else None)


def __getattr__(name: str) -> TierClassifier:
    """Load the artifact when LiteLLM asks for `classifier`."""
    if name != "classifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _from_environment()
