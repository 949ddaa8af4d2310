"""Quantising: a graph whose encoder is kept in eight bits, and whose heads stay as fitted.

Only the encoder's word vectors and the constant matrices of its MatMuls are quantised; together
they are nearly all of its bytes, and the matrices nearly all of its time. What follows the encoder
stays float32: it costs nothing, and reads the sentence embedding as exactly as before.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.manifest import Precision
from querytier.classifier.model.onnx_nodes import CONTRIB_DOMAIN
from querytier.errors import ExportError

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["write_quantised"]

# Of 32, 64 and 128 weights a scale, 128 was the fastest, and hardly less exact than the others.
_BLOCK_SIZE = 128
# Level 4 multiplies whole numbers: a quarter faster than float32, where lower levels, which
# multiply floats, took two to five times as long as float32.
_ACCURACY_LEVEL = 4
_NOT_THE_ENCODER = ("head_", "/surface/")
_MATRIX_AT = {"Gather": 0, "MatMul": 1}
_LARGEST = 127
# Two times 255 * 64 fits into 16 bits. x86 processors without VNNI clip the sums of two products
# there, and would answer otherwise than the machine on which the graph was judged.
_LARGEST_IN_SUMS = 64

Floats = NDArray[np.float32]
# From a node and its matrix to the nodes that take its place, and their constants by name.
_Instead: TypeAlias = Callable[
    ["NodeProto", Floats], tuple[list["NodeProto"], dict[str, NDArray[Any]]]
]


def write_quantised(source: Path, target: Path, precision: Precision) -> None:
    """Write a graph in a precision.

    Parameters
    ----------
    source : Path
        A graph that `querytier.classifier.export.onnx_graph.trace` wrote.
    target : Path
        Becomes one file that holds its own weights.
    precision : {"fp32", "int8", "int8-weights"}
        "fp32" copies. Both others keep the word vectors in 8 bits, with one scale a word. "int8"
        keeps the matrices in 7 bits, with one scale for each column, and finds one scale for all
        that a MatMul reads anew in each call: what a query gets depends on what it is padded to and
        on which queries share its batch. "int8-weights" keeps them in 8 bits, with a scale for each
        128 weights of a column, and one for each 128 numbers of a token, so that other rows hardly
        matter: closer to float32, slower than "int8", and for ONNX Runtime 1.22 or newer.

    Raises
    ------
    ValueError
        If the precision is none of these.
    ExportError
        If the graph has no encoder to quantise.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"{precision!r} is no precision; choose one of {get_args(Precision)}")
    if precision == "fp32":
        shutil.copyfile(source, target)
        return
    import onnx

    model = onnx.load(source)
    gathers, matmuls = _word_gathers(model.graph), _of_the_encoder(model.graph, "MatMul")
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


def _word_gathers(graph: "GraphProto") -> list["NodeProto"]:
    """Return what looks up word vectors: a matrix's rows, by the ids that the graph reads."""
    read = {value.name for value in graph.input}
    return [node for node in _of_the_encoder(graph, "Gather") if node.input[1] in read]


def _of_the_encoder(graph: "GraphProto", operator: str) -> list["NodeProto"]:
    """Return the encoder's nodes that read a constant matrix; attention has MatMuls without."""
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
    gather: "NodeProto", table: Floats
) -> tuple[list["NodeProto"], dict[str, NDArray[Any]]]:
    """Return what looks up rows of whole numbers and the scale of each.

    DequantizeLinear has no scale for each row of what was looked up, so this is a Mul.
    """
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
    matmul: "NodeProto", weights: Floats
) -> tuple[list["NodeProto"], dict[str, NDArray[Any]]]:
    """Return a product of whole numbers, as `onnxruntime.quantization.quantize_dynamic` writes it.

    That function writes the same nodes, and ONNX Runtime fuses them, but it also takes every Gemm
    of the heads apart and sets up the root logger.
    """
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
    matmul: "NodeProto", weights: Floats
) -> tuple[list["NodeProto"], dict[str, NDArray[Any]]]:
    """Return a MatMulNBits; a column's weights lie together, filled up to whole blocks."""
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
    # The operator reads unsigned numbers, and takes 128 for zero.
    shifted = (numbers.astype(np.int16) + 128).astype(np.uint8)
    return [node], {f"{name}_8_bits": shifted, f"{name}_scales": scales[..., 0]}


def _whole_numbers(values: Floats, most: int = _LARGEST) -> tuple[NDArray[np.int8], Floats]:
    """Return values, by the last axis, as whole numbers from -`most` to `most` times a scale each.

    The scale of zeros is 0, which keeps them zeros whatever they are multiplied with.
    """
    scales = np.abs(values).max(axis=-1, keepdims=True) / np.float32(most)
    scales[scales < np.finfo(np.float32).tiny] = 0
    numbers = np.divide(values, scales, out=np.zeros_like(values), where=scales > 0)
    return np.rint(numbers).astype(np.int8), scales


def _replace(graph: "GraphProto", replaced: Sequence["NodeProto"], instead: _Instead) -> None:
    """Put other nodes, with constants of their own, where nodes with a constant matrix were."""
    from onnx import numpy_helper

    values = {one.name: one for one in graph.initializer}
    made: dict[str, list[NodeProto]] = {}
    constants: dict[str, NDArray[Any]] = {}
    for node in replaced:
        matrix = values[node.input[_MATRIX_AT[node.op_type]]]
        made[node.output[0]], new = instead(node, numpy_helper.to_array(matrix))
        constants |= new
    nodes = [new for node in graph.node for new in made.get(node.output[0], [node])]
    used = {name for node in nodes for name in node.input}
    kept = [one for name, one in values.items() if name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(one, name) for name, one in constants.items())
