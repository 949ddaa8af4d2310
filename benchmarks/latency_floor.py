"""The lower bound of an encoder's time: its matrix products, timed alone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floor", "measure_floor", "memory_rate"]

WIDTH, INNER = 384, 1536
# In each layer: query, key, value and output; then up and down.
MATRICES = ((WIDTH, WIDTH, 4), (WIDTH, INNER, 1), (INNER, WIDTH, 1))
_REPEATS, _ROUNDS = 20, 7


@dataclass(frozen=True, slots=True)
class Floor:
    """The time of the constant matrices of one layer of MiniLM, for one number of tokens.

    Attributes
    ----------
    tokens : int
    operations : float
        Multiplications and additions of the layer, including attention (4 * tokens**2 * width).
    milliseconds : dict of str to float
        Time of the six products, by precision; for int8 it includes quantising their input.
    """

    tokens: int
    operations: float
    milliseconds: dict[str, float]

    def rate(self, precision: str) -> float:
        """Return billions of operations per second in the products."""
        products = sum(2 * self.tokens * rows * columns * n for rows, columns, n in MATRICES)
        return products / self.milliseconds[precision] / 1e6


def measure_floor(tokens: int) -> Floor:
    """Time the products of one layer on one thread, each as its own graph."""
    products = sum(2 * tokens * rows * columns * n for rows, columns, n in MATRICES)
    milliseconds = {
        precision: sum(
            n * _milliseconds(_session(rows, columns, precision), tokens, rows)
            for rows, columns, n in MATRICES
        )
        for precision in ("fp32", "int8")
    }
    return Floor(tokens, products + 4 * tokens**2 * WIDTH, milliseconds)


def memory_rate() -> float:
    """Return the GB per second at which scattered rows of a large table are read."""
    table = np.ones((200_000, 256), dtype=np.float32)
    rows = np.random.default_rng(0).integers(0, len(table), 100_000)
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        table[rows].sum()
        seconds.append(time.perf_counter() - started)
    return rows.size * table.shape[1] * 4 / min(seconds) / 1e9


def _milliseconds(session: Any, tokens: int, rows: int) -> float:
    numbers: NDArray[np.float32] = np.random.default_rng(0).normal(size=(tokens, rows))
    feed = {"x": numbers.astype(np.float32)}
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for _ in range(_REPEATS):
            session.run(None, feed)
        seconds.append((time.perf_counter() - started) / _REPEATS)
    return 1000 * min(seconds)


def _session(rows: int, columns: int, precision: str) -> Any:
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights = _product(np.random.default_rng(1).normal(size=(rows, columns)), precision)
    read = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", rows])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", columns])
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "product", [read], [made], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options)


def _product(
    weights: NDArray[np.float64], precision: str
) -> tuple[Sequence[Any], dict[str, NDArray[Any]]]:
    from onnx import helper

    node = helper.make_node
    if precision == "fp32":
        return [node("MatMul", ["x", "w"], ["y"])], {"w": weights.astype(np.float32)}
    scale = np.abs(weights).max(axis=0) / 64
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w", "z"], ["i"]),
        node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["s", "scales"], ["t"]),
        node("Mul", ["f", "t"], ["y"]),
    ]
    whole = np.rint(weights / scale).astype(np.int8)
    return nodes, {"w": whole, "scales": scale.astype(np.float32)}
