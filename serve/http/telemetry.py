"""Spans of decisions, where the process traces, in the words of OpenTelemetry's GenAI conventions.

Those conventions know no routing yet: what is not theirs is named `querytier.*`. No span holds text
of a query.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from querytier.serve.decision import Decision

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ["record_span", "tracer"]


def tracer() -> "Tracer | None":
    """Return a tracer where OpenTelemetry is installed and a provider is set; else None."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return provider.get_tracer("querytier")


def record_span(
    tracer: "Tracer", decision: Decision, headers: Mapping[str, str], conversation: str | None
) -> None:
    """Record a decision that was just taken, as a child of the caller's span.

    Parameters
    ----------
    tracer : Tracer
    decision : Decision
    headers : mapping of str to str
        Of the request; `traceparent` names the caller's span.
    conversation : str or None
    """
    from opentelemetry.propagate import extract

    ended = time.time_ns()
    span = tracer.start_span(
        "route querytier",
        context=extract(headers),
        start_time=ended - int(decision.latency_ms * 1e6),
        attributes=_attributes(decision, conversation),
    )
    span.end(ended)


def _attributes(decision: Decision, conversation: str | None) -> dict[str, Any]:
    attributes = {
        "gen_ai.operation.name": "route",
        "gen_ai.provider.name": "querytier",
        "gen_ai.conversation.id": conversation,
        **{
            f"querytier.{name}": value
            for name, value in decision.to_dict().items()
            if name != "latency_ms"
        },
    }
    return {name: value for name, value in attributes.items() if value is not None}
