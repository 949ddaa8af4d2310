"""Quantisation: an encoder in eight bits, with heads in float32.

The encoder's word vectors and the constant matrices of its MatMuls are quantised. They are nearly
all of its bytes, and the matrices take nearly all of its time. The heads stay float32: they take
almost no time, and their rounding would go straight into the scores.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.manifest import Precision
from querytier.classifier.model.onnx_nodes import CONTRIB_DOMAIN
from querytier.data.arrays import Vectors
from querytier.errors import ExportError

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["write_quantised"]

# Of 32, 64 and 128 weights per scale, 128 is the fastest, and hardly less exact.
_BLOCK_SIZE = 128
# Level 4 multiplies whole numbers, a quarter faster than float32; levels 0 and 1 multiply floats
# and take two to five times as long as float32.
_ACCURACY_LEVEL = 4
# Prefixes of nodes that stay float32.
_NOT_THE_ENCODER = ("head_", "/surface/")
_MATRIX_AT = {"Gather": 0, "MatMul": 1}
_LARGEST = 127
# Two times 255 * 64 fits into 16 bits, where x86 processors without VNNI clip the sum of two
# products: with 8 bits they would compute other scores than the machine that judged the graph.
# With 7 bits emulated Haswell and Skylake give the same scores to 3e-8.
_LARGEST_IN_SUMS = 64

# From a node and its matrix to the nodes that replace it, and their constants by name.
_Replacement: TypeAlias = Callable[
    ["NodeProto", Vectors], tuple[list["NodeProto"], dict[str, NDArray[Any]]]
]


def write_quantised(source: Path, target: Path, precision: Precision) -> None:
    """Write a graph in another precision.

    Parameters
    ----------
    source : Path
        A graph written by `querytier.classifier.export.onnx_graph.trace`.
    target : Path
        One file with all of its weights.
    precision : {"fp32", "int8", "int8-weights"}
        "fp32" copies the graph. Both others store the word vectors in 8 bits, one scale per word.
        "int8" stores the matrices in 7 bits, one scale per column, and computes one scale for the
        whole input of a MatMul in each call: the scores of a query depend on its padding and on the
        other queries of its batch. "int8-weights" stores them in 8 bits, one scale per 128 weights
        of a column and one per 128 numbers of a token, so other rows hardly matter: closer to
        float32 (0.3 to 0.6% of decisions flip, 1.4 to 2.1% with "int8"), slower, and for ONNX
        Runtime 1.22 or newer, which has MatMulNBits with 8 bits.

    Raises
    ------
    ValueError
        If the precision is none of these.
    ExportError
        If the graph has no encoder to quantise.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"{precision!r} is not a precision; choose one of {get_args(Precision)}")
    if precision == "fp32":
        shutil.copyfile(source, target)
        return
    import onnx

    model = onnx.load(source)
    ids = {value.name for value in model.graph.input}
    # Word vectors are looked up by the ids that the graph reads, positions by others.
    gathers = [node for node in _of_the_encoder(model.graph, "Gather") if node.input[1] in ids]
    matmuls = _of_the_encoder(model.graph, "MatMul")
    if not gathers and not matmuls:
        raise ExportError(
            f"{source} has neither word vectors nor matrices of an encoder, so {precision} would "
            "change nothing; export it as fp32"
        )
    _replace(model.graph, gathers, _gather_8_bits)
    if precision == "int8":
        _replace(model.graph, matmuls, _dynamic_matmul)
    elif matmuls:
        _replace(model.graph, matmuls, _matmul_of_blocks)
        model.opset_import.append(onnx.helper.make_opsetid(CONTRIB_DOMAIN, 1))
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _of_the_encoder(graph: "GraphProto", operator: str) -> list["NodeProto"]:
    """Return the encoder's nodes with a constant matrix; MatMuls of attention have none."""
    from onnx import TensorProto

    floats = (one for one in graph.initializer if one.data_type == TensorProto.FLOAT)
    matrices = {one.name for one in floats if len(one.dims) == 2}
    return [
        node
        for node in graph.node
        if node.op_type == operator
        and node.input[_MATRIX_AT[operator]] in matrices
        and not node.output[0].startswith(_NOT_THE_ENCODER)
    ]


def _gather_8_bits(
    gather: "NodeProto", table: Vectors
) -> tuple[list["NodeProto"], dict[str, NDArray[Any]]]:
    """Return the nodes that look up rows of whole numbers and the scale of each row."""
    # DequantizeLinear cannot scale each row that a Gather returns by another number; Mul can.
    from onnx import TensorProto, helper

    name, ids, output = gather.input[0], gather.input[1], gather.output[0]
    numbers, scales = _whole_numbers(table)
    nodes = [
        helper.make_node("Gather", [f"{name}_8_bits", ids], [f"{output}_8_bits"]),
        helper.make_node("Gather", [f"{name}_scales", ids], [f"{output}_scales"]),
        helper.make_node("Cast", [f"{output}_8_bits"], [f"{output}_cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output}_cast", f"{output}_scales"], [output]),
    ]
    return nodes, {f"{name}_8_bits": numbers, f"{name}_scales": scales}


def _dynamic_matmul(
    matmul: "NodeProto", weights: Vectors
) -> tuple[list["NodeProto"], dict[str, NDArray[Any]]]:
    """Return the nodes of a product of whole numbers, as `quantize_dynamic` writes them."""
    # Not by onnxruntime's function itself: it would quantise the heads' Gemms too, and configures
    # the root logger. ONNX Runtime fuses these nodes all the same. One scale for each column: with
    # one for the whole matrix 3 to 6% of decisions flip.
    from onnx import TensorProto, helper

    name, read, output = matmul.input[1], matmul.input[0], matmul.output[0]
    by_column, scales = _whole_numbers(weights.T, _LARGEST_IN_SUMS)
    steps = [f"{output}_{step}" for step in ("8_bits", "scale", "zero", "sum", "cast", "scales")]
    numbers, scale, zero, total, cast, both_scales = steps
    nodes = [
        helper.make_node("DynamicQuantizeLinear", [read], [numbers, scale, zero]),
        helper.make_node("MatMulInteger", [numbers, f"{name}_8_bits", zero], [total], matmul.name),
        helper.make_node("Cast", [total], [cast], to=TensorProto.FLOAT),
        helper.make_node("Mul", [scale, f"{name}_scales"], [both_scales]),
        helper.make_node("Mul", [cast, both_scales], [output]),
    ]
    columns = np.ascontiguousarray(by_column.T)
    return nodes, {f"{name}_8_bits": columns, f"{name}_scales": scales[:, 0]}


def _matmul_of_blocks(
    matmul: "NodeProto", weights: Vectors
) -> tuple[list["NodeProto"], dict[str, NDArray[Any]]]:
    """Return a MatMulNBits, whose columns are padded to whole blocks."""
    from onnx import helper

    name, (inputs, outputs) = matmul.input[1], weights.shape
    filled = np.pad(weights.T, ((0, 0), (0, -inputs % _BLOCK_SIZE)))
    numbers, scales = _whole_numbers(filled.reshape(outputs, -1, _BLOCK_SIZE))
    node = helper.make_node(
        "MatMulNBits",
        [matmul.input[0], f"{name}_8_bits", f"{name}_scales"],
        list(matmul.output),
        matmul.name,
        domain=CONTRIB_DOMAIN,
        K=inputs,
        N=outputs,
        bits=8,
        block_size=_BLOCK_SIZE,
        accuracy_level=_ACCURACY_LEVEL,
    )
    # The operator reads unsigned numbers; 128 means zero.
    shifted = (numbers.astype(np.int16) + 128).astype(np.uint8)
    return [node], {f"{name}_8_bits": shifted, f"{name}_scales": scales[..., 0]}


def _whole_numbers(values: Vectors, largest: int = _LARGEST) -> tuple[NDArray[np.int8], Vectors]:
    """Return values as whole numbers from -`largest` to `largest`, and a scale for each last axis.

    The scale of zeros is 0, so they stay zeros.
    """
    scales = np.abs(values).max(axis=-1, keepdims=True) / np.float32(largest)
    scales[scales < np.finfo(np.float32).tiny] = 0
    numbers = np.divide(values, scales, out=np.zeros_like(values), where=scales > 0)
    return np.rint(numbers).astype(np.int8), scales


def _replace(
    graph: "GraphProto", replaced: Sequence["NodeProto"], replacement: _Replacement
) -> None:
    """Replace nodes that have a constant matrix by others with their own constants."""
    from onnx import numpy_helper

    values = {one.name: one for one in graph.initializer}
    made: dict[str, list[NodeProto]] = {}
    constants: dict[str, NDArray[Any]] = {}
    for node in replaced:
        matrix = values[node.input[_MATRIX_AT[node.op_type]]]
        made[node.output[0]], new = replacement(node, numpy_helper.to_array(matrix))
        constants |= new
    nodes = [new for node in graph.node for new in made.get(node.output[0], [node])]
    used = {name for node in nodes for name in node.input}
    kept = [one for name, one in values.items() if name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(one, name) for name, one in constants.items())
