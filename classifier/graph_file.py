"""What a graph may hold: operators that stock ONNX Runtime ships, and all of its weights.

The graph is read without the onnx package, which is not there in the path of a request: a walk over
the fields of its protocol buffer, by the field numbers of ONNX's own `onnx.proto`.
"""

import mmap
from pathlib import Path

from querytier.classifier.protobuf import BYTES, VARINT, fields
from querytier.errors import ArtifactError

__all__ = ["DOMAINS", "MAX_GRAPH_BYTES", "check_graph"]

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
MAX_GRAPH_BYTES = 1 << 30

# Field numbers, by message.
_GRAPH, _FUNCTIONS = 7, 25
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE_TENSOR, _SPARSE_TENSORS = 5, 6, 10, 11, 22, 23
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def check_graph(path: Path) -> None:
    """Check a graph before anything runs it.

    Raises
    ------
    ArtifactError
        If it is larger than `MAX_GRAPH_BYTES`, is no ONNX graph, has an operator of a domain that
        is not in `DOMAINS` or functions of its own, or keeps weights in other files.
    """
    size = path.stat().st_size
    if not 0 < size <= MAX_GRAPH_BYTES:
        raise ArtifactError(
            f"{path} has {size:,} bytes; a graph has 1 to {MAX_GRAPH_BYTES:,}: distil or quantise "
            "the encoder"
        )
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            _Walk(content, path).model(0, size)
        except (IndexError, RecursionError) as error:
            raise ArtifactError(
                f"{path} is not an ONNX graph, or was cut short; copy the artifact again from its "
                "source"
            ) from error


class _Walk:
    def __init__(self, content: mmap.mmap, path: Path) -> None:
        self.content = content
        self.path = path

    def model(self, start: int, end: int) -> None:
        graphs = 0
        for number, _, first, last in fields(self.content, start, end):
            if number == _GRAPH:
                graphs += 1
                self.graph(first, last)
            elif number == _FUNCTIONS:
                raise ArtifactError(f"{self.path} has functions of its own; export it without")
        if not graphs:
            raise IndexError

    def graph(self, start: int, end: int) -> None:
        for number, _, first, last in fields(self.content, start, end):
            if number == _NODE:
                self.node(first, last)
            elif number == _INITIALIZER:
                self.tensor(first, last)
            elif number == _SPARSE_INITIALIZER:
                self.sparse(first, last)

    def node(self, start: int, end: int) -> None:
        operator = domain = ""
        for number, _, first, last in fields(self.content, start, end):
            if number == _OPERATOR:
                operator = self.text(first, last)
            elif number == _DOMAIN:
                domain = self.text(first, last)
            elif number == _ATTRIBUTE:
                self.attribute(first, last)
        if domain not in DOMAINS:
            raise ArtifactError(
                f"{self.path} has the operator {domain}.{operator}; an artifact is made of "
                f"operators of {', '.join(sorted(DOMAINS - {''}))}, which every ONNX Runtime ships"
            )

    def attribute(self, start: int, end: int) -> None:
        parts = {
            _TENSOR: self.tensor,
            _TENSORS: self.tensor,
            _SUBGRAPH: self.graph,
            _SUBGRAPHS: self.graph,
            _SPARSE_TENSOR: self.sparse,
            _SPARSE_TENSORS: self.sparse,
        }
        for number, kind, first, last in fields(self.content, start, end):
            if kind == BYTES and number in parts:
                parts[number](first, last)

    def sparse(self, start: int, end: int) -> None:
        for _, kind, first, last in fields(self.content, start, end):
            if kind == BYTES:
                self.tensor(first, last)

    def tensor(self, start: int, end: int) -> None:
        for number, kind, first, _ in fields(self.content, start, end):
            if number == _EXTERNAL_DATA or (
                number == _DATA_LOCATION and kind == VARINT and self.content[first]
            ):
                raise ArtifactError(
                    f"{self.path} keeps weights in other files; save it without external data"
                )

    def text(self, start: int, end: int) -> str:
        return self.content[start:end].decode("utf-8", "replace")
