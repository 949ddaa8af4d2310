"""OTLP/JSON, as exporters write it and as protobuf libraries print it.

The libraries write ids in base64, int64 as text, and names in snake case.
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
    *("resourceSpans", "resourceLogs", "resourceMetrics"),
    *("resource_spans", "resource_logs", "resource_metrics"),
)


def children(parent: object, *names: str) -> Iterator[object]:
    """Yield the items of a parent's lists with these names."""
    for name in names:
        yield from sequence_in(parent.get(name)) if isinstance(parent, Mapping) else ()


def own_record(record: Record, child: object) -> Record:
    """Return a part of a record as a record, with the same line and the part's own raw text."""
    raw = json.dumps(child, ensure_ascii=False, default=str)
    if isinstance(child, dict):
        return Record(record.line, child, None, raw)
    return Record(record.line, None, "not a JSON object", raw)


def trace_of(holder: Mapping[str, object]) -> str | None:
    """Return the id of a trace in hexadecimal digits; None without one."""
    return _hex_id(first_present(holder, "traceId", "trace_id"), 16)


def context_of(holder: Mapping[str, object]) -> str:
    """Return the id of a span, or of the span in which a log record was written.

    It is trace and span in hexadecimal digits; empty if there is neither.
    """
    span_id = _hex_id(first_present(holder, "spanId", "span_id"), 8)
    return "-".join(part for part in (trace_of(holder), span_id) if part)


def attributes_of(holder: object) -> Attributes:
    """Return the attributes of a span, event or log record, given as OTLP's list or a mapping."""
    attributes = holder.get("attributes") if isinstance(holder, Mapping) else None
    if isinstance(attributes, Mapping):
        return dict(attributes)
    return dict(_named_values(attributes))


def _named_values(pairs: object) -> Iterator[tuple[str, object]]:
    for item in sequence_in(pairs):
        if isinstance(item, Mapping) and isinstance(item.get("key"), str):
            yield item["key"], _value(item.get("value"))


def _value(value: object) -> object:
    """Return the content of an OTLP value, whatever its type is called."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    kind, content = next(iter(value.items()))
    if kind in ("arrayValue", "array_value"):
        return [_value(item) for item in children(content, "values")]
    if kind in ("kvlistValue", "kvlist_value"):
        return dict(_named_values(mapping_in(content).get("values")))
    return content


def _hex_id(value: object, size: int) -> str | None:
    """Return an id of `size` bytes in hexadecimal digits; other text unchanged.

    An id in base64 has another length than one in hexadecimal digits, so they cannot be confused.
    """
    text = text_in(value)
    # 8 and 16 bytes are 12 and 24 characters in base64, 16 and 32 in hexadecimal digits.
    if text is None or len(text) == 2 * size:
        return text and text.lower()
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text
    return content.hex() if len(content) == size else text
