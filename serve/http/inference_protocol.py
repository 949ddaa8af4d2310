"""The Open Inference Protocol, version 2, for clients of model servers.

There is one model, `querytier`, with the input `query` (BYTES); tensors are JSON or, with the
extension `binary_tensor_data`, bytes after the JSON. A fallback has no scores, and a tensor has no
null: its `p_frontier` is 1 if the tier is frontier and 0 if it is cheap, its `decision_score` 1 or
-1, so that a client that reads only numbers chooses the same tier. `reason` shows that it is a
fallback.

Source: https://github.com/open-inference/open-inference-protocol
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from querytier import __version__
from querytier.classifier.manifest import Manifest
from querytier.serve.http.wire import Refusal, parse

__all__ = [
    "INFER",
    "MODEL",
    "Infer",
    "InferAnswer",
    "answer_tensors",
    "model_metadata",
    "read_infer",
    "server_metadata",
]

MODEL = "querytier"
_OUTPUTS = {"p_frontier": "FP32", "decision_score": "FP32", "tier": "BYTES", "reason": "BYTES"}

Parameters = dict[str, Any]
Text = str | Annotated[list[str], Field(max_length=1)]


class _Tensor(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Input(_Tensor):
    """The queries."""

    name: Literal["query"]
    datatype: Literal["BYTES"]
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=2)]
    data: list[Text] | None = None
    parameters: Parameters = Field(default_factory=dict)


class Output(_Tensor):
    """A requested output."""

    name: Literal["p_frontier", "decision_score", "tier", "reason"]
    parameters: Parameters = Field(default_factory=dict)


class Infer(_Tensor):
    """A request for inference."""

    id: str | None = None
    inputs: Annotated[list[Input], Field(min_length=1, max_length=1)]
    outputs: list[Output] | None = None
    parameters: Parameters = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One output, with a value for each query."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float] | list[str]


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """The outputs."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


INFER = TypeAdapter(Infer)


def server_metadata() -> dict[str, Any]:
    """Return the answer of `/v2`."""
    return {"name": "querytier", "version": __version__, "extensions": ["binary_tensor_data"]}


def model_metadata(manifest: Manifest) -> dict[str, Any]:
    """Return the answer of `/v2/models/querytier`."""
    return {
        "name": MODEL,
        "versions": [manifest.model_version],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "query", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1]}
            for name, datatype in _OUTPUTS.items()
        ],
    }


def read_infer(body: bytes, json_length: str | None) -> tuple[Infer, list[str]]:
    """Return a request and its queries.

    Parameters
    ----------
    body : bytes
    json_length : str or None
        The header `Inference-Header-Content-Length`, if tensors follow the JSON as bytes.

    Raises
    ------
    Refusal
        If the request violates the protocol.
    """
    cut = len(body)
    if json_length is not None:
        cut = int(json_length) if json_length.isascii() and json_length.isdecimal() else -1
        if not 0 <= cut <= len(body):
            raise _wrong(f"Inference-Header-Content-Length is {json_length[:20]!r}", body)
    infer = parse(INFER, body[:cut])
    tensor = infer.inputs[0]
    if tensor.data is None:
        queries = list(_elements(body[cut:]))
    else:
        queries = [text for one in tensor.data for text in ([one] if isinstance(one, str) else one)]
    if _size(tensor.shape) != len(queries):
        raise Refusal(
            422, "shape", f"the shape {tensor.shape} does not match the {len(queries)} queries"
        )
    return infer, queries


def _size(shape: Sequence[int]) -> int:
    """Return the number of queries of a shape: [n], or [n, 1] from clients that batch."""
    return shape[0] if len(shape) == 1 or shape[1] == 1 else -1


def _elements(content: bytes) -> Iterator[str]:
    """Yield the elements of a BYTES tensor: the length in four bytes, then the bytes."""
    place = 0
    while place < len(content):
        start = place + 4
        if start > len(content):
            raise _wrong("a length is cut off", content)
        (length,) = struct.unpack_from("<I", content, place)
        place = start + length
        if place > len(content):
            raise _wrong(f"an element of {length} bytes is cut off", content)
        yield content[start:place].decode("utf-8", "replace")


def _wrong(what: str, content: bytes) -> Refusal:
    return Refusal(
        400, "tensor", f"{what}, in {len(content)} bytes; see the extension binary_tensor_data"
    )


def answer_tensors(
    infer: Infer, decisions: Sequence[Mapping[str, Any]], model_version: str
) -> tuple[bytes, int | None]:
    """Return the answer to a request.

    Returns
    -------
    body : bytes
    json_length : int or None
        Length of the JSON part, if tensors follow it as bytes; else None.
    """
    outputs = infer.outputs or [Output(name=name) for name in _OUTPUTS]  # type: ignore[arg-type]
    tensors, tail = [], b""
    for output in outputs:
        tensor, content = _tensor(output, infer.parameters, decisions)
        tensors.append(tensor)
        tail += content
    answer = {"model_name": MODEL, "model_version": model_version, "outputs": tensors}
    if infer.id is not None:
        answer["id"] = infer.id
    head = json.dumps(answer).encode()
    return head + tail, len(head) if tail else None


def _tensor(
    output: Output, parameters: Parameters, decisions: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], bytes]:
    """Return an output in JSON, and its bytes after the JSON, if any."""
    values = [_value(output.name, decision) for decision in decisions]
    tensor: dict[str, Any] = {
        "name": output.name,
        "datatype": _OUTPUTS[output.name],
        "shape": [len(values)],
    }
    default = parameters.get("binary_data_output", False)
    if not values or output.parameters.get("binary_data", default) is not True:
        return {**tensor, "data": values}, b""
    content = b"".join(_element(value) for value in values)
    return {**tensor, "parameters": {"binary_data_size": len(content)}}, content


def _element(value: float | str) -> bytes:
    if isinstance(value, float):
        return struct.pack("<f", value)
    encoded = value.encode()
    return struct.pack("<I", len(encoded)) + encoded


def _value(name: str, decision: Mapping[str, Any]) -> float | str:
    value: float | str | None = decision[name]
    if value is not None:
        return value
    frontier = decision["tier"] == "frontier"
    return float(frontier) if name == "p_frontier" else 2.0 * frontier - 1.0
