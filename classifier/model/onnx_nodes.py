"""Nodes of an ONNX graph, added one by one to a model that has others already."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["CONTRIB_DOMAIN", "ML_DOMAIN", "Nodes"]

# Operators that every ONNX Runtime ships: those of classical machine learning, and its own.
ML_DOMAIN = "ai.onnx.ml"
CONTRIB_DOMAIN = "com.microsoft"
_VERSIONS = {ML_DOMAIN: 3, CONTRIB_DOMAIN: 1}


class Nodes:
    """Nodes and constants for a graph.

    Parameters
    ----------
    part : str
        Prefix of their names in the graph; quantisation uses it to leave the heads out.
    """

    def __init__(self, part: str) -> None:
        self._part = part
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Add an operator with one output; return the output's name."""
        from onnx import helper

        output = f"{self._part}_{len(self._nodes)}_{operator.lower()}"
        node = helper.make_node(operator, list(inputs), [output], domain=domain, **attributes)
        self._nodes.append(node)
        return output

    def constant(self, values: NDArray[Any] | float) -> str:
        """Add a constant; return its name. Floats become float32."""
        from onnx import numpy_helper

        array = np.asarray(values)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        name = f"{self._part}_constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def gemm(self, features: str, weights: NDArray[Any], bias: NDArray[Any]) -> str:
        """Add features @ weights.T + bias; shapes (k, d) of `weights` and (k,) of `bias`."""
        return self.add("Gemm", [features, self.constant(weights), self.constant(bias)], transB=1)

    def append_to(self, model: "ModelProto", outputs: dict[str, str]) -> None:
        """Append to a model in place; `outputs` is by name of new outputs of shape (batch,)."""
        from onnx import TensorProto, helper

        graph = model.graph
        graph.node.extend(self._nodes)
        for name, node in outputs.items():
            graph.node.append(helper.make_node("Identity", [node], [name]))
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]))
        self._complete(model)

    def put_before(self, model: "ModelProto", last: str, name: str) -> None:
        """Insert before all nodes of a model, in place; the value `last` gets a new name there."""
        from onnx import helper

        before = [*self._nodes, helper.make_node("Identity", [last], [name]), *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(before)
        self._complete(model)

    def _complete(self, model: "ModelProto") -> None:
        from onnx import helper

        model.graph.initializer.extend(self._constants)
        imported = {opset.domain for opset in model.opset_import}
        for domain in sorted({node.domain for node in self._nodes} - imported):
            model.opset_import.append(helper.make_opsetid(domain, _VERSIONS[domain]))
