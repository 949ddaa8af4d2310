"""OTLP/JSON, as exporters write it and as protobuf libraries dump it.

The dumps have ids in base64, int64 as text, and snake case.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping

from querytier.data.formats.reading import Record
from querytier.data.values import first_present, mapping_in, sequence_in, text_in

__all__ = [
    "ENVELOPES",
    "Attributes",
    "attributes_of",
    "children",
    "context_of",
    "own_record",
    "trace_of",
]

Attributes = dict[str, object]

ENVELOPES = (
    "resourceSpans",
    "resource_spans",
    "resourceLogs",
    "resource_logs",
    "resourceMetrics",
    "resource_metrics",
)


def children(parent: object, *names: str) -> Iterator[object]:
    """Yield the items of the lists of a parent that have any of the names."""
    for name in names:
        yield from sequence_in(parent.get(name)) if isinstance(parent, Mapping) else ()


def own_record(record: Record, child: object) -> Record:
    """Return a record of what a record's fields hold, of its line and with its own text as raw."""
    raw = json.dumps(child, ensure_ascii=False, default=str)
    if isinstance(child, dict):
        return Record(record.line, child, None, raw)
    return Record(record.line, None, "not a JSON object", raw)


def trace_of(holder: Mapping[str, object]) -> str | None:
    """Return the id of a trace in hexadecimal digits; None where there is none."""
    return _hex_id(first_present(holder, "traceId", "trace_id"), 16)


def context_of(holder: Mapping[str, object]) -> str:
    """Return what is the id of a span, and in a log record names the span it was written in.

    It is trace and span in hexadecimal digits; empty where neither is there.
    """
    own_id = _hex_id(first_present(holder, "spanId", "span_id"), 8)
    return "-".join(part for part in (trace_of(holder), own_id) if part)


def attributes_of(holder: object) -> Attributes:
    """Return the attributes of a span, event or log record, be they OTLP's list or a mapping."""
    attributes = holder.get("attributes") if isinstance(holder, Mapping) else None
    if isinstance(attributes, Mapping):
        return dict(attributes)
    return dict(_named_values(attributes))


def _named_values(pairs: object) -> Iterator[tuple[str, object]]:
    for item in sequence_in(pairs):
        if isinstance(item, Mapping) and isinstance(item.get("key"), str):
            yield item["key"], _value(item.get("value"))


def _value(value: object) -> object:
    """Return what an OTLP value holds, whatever its type is called."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    kind, content = next(iter(value.items()))
    if kind in ("arrayValue", "array_value"):
        return [_value(item) for item in children(content, "values")]
    if kind in ("kvlistValue", "kvlist_value"):
        return dict(_named_values(mapping_in(content).get("values")))
    return content


def _hex_id(value: object, size: int) -> str | None:
    """Return an id of `size` bytes as hexadecimal digits; what is neither that nor base64, as is.

    The lengths of the two spellings differ, so none is taken for the other.
    """
    text = text_in(value)
    if text is None or len(text) == 2 * size:
        return text and text.lower()
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text
    return content.hex() if len(content) == size else text
