"""A plugin for LiteLLM: the classifier of its complexity router.

In the proxy's configuration (`examples/litellm/config.yaml` is a complete one)::

    complexity_router_config:
      classifier_type: custom
      classifier_plugin: querytier.serve.plugins.litellm.classifier
      tiers: {SIMPLE: small-model, REASONING: large-model}
      tier_labels: {SIMPLE: cheap, REASONING: frontier}
      classifier_fallback: default_model
      default_model: large-model

The environment variable `QUERYTIER_ARTIFACT` names the folder of the artifact, and `QUERYTIER_LOG`
that of a decision log, if there is to be one. The artifact is loaded when LiteLLM looks up
`classifier`, so that a proxy with a missing or damaged artifact does not start. Programs that call
`litellm.Router` themselves pass `TierClassifier(Router.load(path))`; a module in the folder of the
proxy's configuration may do the same, under any name.

LiteLLM is not imported here: a plugin is any object with an async `classify`.
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
    """The request that LiteLLM passes to a plugin; `litellm.types.router.RoutingContext`."""

    @property
    def structured_messages(self) -> Sequence[Mapping[str, object]]:
        """The request as chat messages, from any API."""


@dataclass(frozen=True)
class TierClassifier:
    """Names the tier of a request.

    Attributes
    ----------
    router : Router
    log : DecisionLog or None
        Log of the decisions.
    """

    router: Router
    log: DecisionLog | None = None

    async def classify(self, context: RoutingContext) -> Tier:
        """Return the decided tier: the fallback tier if the classifier cannot answer.

        Never returns None: LiteLLM would then use its own keyword scores unless
        `classifier_fallback` is set.

        Parameters
        ----------
        context : RoutingContext
        """
        # In a thread: the proxy serves other requests meanwhile, and its timeout can fire.
        query = context.structured_messages
        decision = await asyncio.to_thread(self.router.decide, query)
        if self.log is not None:
            self.log.append(decision, query)
        return decision.tier

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return itself: LiteLLM copies its list of models, and a session cannot be copied."""
        return self


@cache
def _from_environment() -> TierClassifier:
    folder = os.environ.get(ARTIFACT_VARIABLE)
    if not folder:
        raise UsageError(
            f"{ARTIFACT_VARIABLE} is not set: set it to the folder that `querytier run` or "
            "`querytier export` wrote"
        )
    log = os.environ.get(LOG_VARIABLE)
    return TierClassifier(Router.load(folder), DecisionLog(Path(log)) if log else None)


def __getattr__(name: str) -> TierClassifier:
    """Load the artifact when LiteLLM asks for `classifier`."""
    if name != "classifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _from_environment()
