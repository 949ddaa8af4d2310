"""Nodes of an ONNX graph, added one after the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["ML_DOMAIN", "Nodes"]

# The operators of classical machine learning that every ONNX Runtime ships.
ML_DOMAIN = "ai.onnx.ml"


class Nodes:
    """Nodes and constants that are to be appended to a graph."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Add an operator with one output; return the output's name."""
        from onnx import helper

        output = f"head_{len(self._nodes)}_{operator.lower()}"
        node = helper.make_node(operator, list(inputs), [output], domain=domain, **attributes)
        self._nodes.append(node)
        return output

    def constant(self, values: NDArray[Any] | float) -> str:
        """Add a constant, float32 where it is made of floats; return its name."""
        from onnx import numpy_helper

        array = np.asarray(values)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        name = f"head_constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def gemm(self, features: str, weights: NDArray[Any], bias: NDArray[Any]) -> str:
        """Add features @ weights.T + bias, of `weights` of shape (k, d) and `bias` of (k,)."""
        return self.add("Gemm", [features, self.constant(weights), self.constant(bias)], transB=1)

    def append_to(self, model: "ModelProto", outputs: dict[str, str]) -> None:
        """Append to a model in place; `outputs` names new outputs, of shape (batch,), by node."""
        from onnx import TensorProto, helper

        graph = model.graph
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._constants)
        for name, node in outputs.items():
            graph.node.append(helper.make_node("Identity", [node], [name]))
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]))
        if any(node.domain == ML_DOMAIN for node in self._nodes):
            model.opset_import.append(helper.make_opsetid(ML_DOMAIN, 3))
