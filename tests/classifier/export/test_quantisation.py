"""Quantised graphs: smaller, close to float32, and exact after the encoder."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from querytier.classifier.export.onnx_graph import trace, write_graph
from querytier.classifier.export.quantisation import write_quantised
from querytier.classifier.golden import golden_queries
from querytier.classifier.model.encoder import load_encoder
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Heads, Member
from querytier.classifier.model.nets import Linear
from querytier.classifier.model.surface import surface_table
from querytier.classifier.runtime import open_session
from querytier.data.text_view import text_view
from querytier.errors import ExportError
from querytier.training.encoders.static import static_encoder

PRECISIONS = ["int8", "int8-weights"]
MATRICES_A_LAYER = 6
VIEWS = [text_view(query) for query in list(golden_queries())[::11]][:20]


@pytest.fixture(scope="module")
def features():
    encoder = load_encoder(layers=2)
    token_ids = [encoder.tokenizer.token_ids(view) for view in VIEWS]
    surface = surface_table(encoder.tokenizer.json).fitted_to(token_ids)
    return Features("minilm2", encoder, surface)


@pytest.fixture(scope="module")
def heads(features):
    random = np.random.default_rng(0)
    blocks = ("minilm2", "minilm2-surface")
    read = features.of(VIEWS)
    width = sum(read[block].shape[1] for block in blocks)
    need = Linear(random.normal(size=(1, width)), np.zeros(1))
    gain = Linear(random.normal(size=(3, width)), np.zeros(3))
    return Heads((Member(blocks, need, gain),), "gain")


@pytest.fixture(scope="module")
def graphs(features, heads, tmp_path_factory):
    """Return the paths of one graph in all precisions."""
    folder = tmp_path_factory.mktemp("graphs")
    trace(features, folder / "traced.onnx")
    write_graph(folder / "traced.onnx", features, heads, folder / "source.onnx")
    for precision in PRECISIONS:
        write_quantised(folder / "traced.onnx", folder / "quantised.onnx", precision)
        write_graph(folder / "quantised.onnx", features, heads, folder / f"{precision}.onnx")
    return {path.stem: path for path in folder.iterdir()}


def answers(path, token_ids, outputs=("p_frontier", "gain", "sentence_embedding")):
    session = open_session(path)
    return [session.run(list(outputs), {"token_ids": np.array([ids])}) for ids in token_ids]


def stacked(path, features):
    found = answers(path, [features.encoder.tokenizer.token_ids(view) for view in VIEWS])
    return [np.concatenate(column) for column in zip(*found, strict=True)]


def constants_of(path):
    return {one.name: one for one in onnx.load(path).graph.initializer}


def test_fp32_is_a_copy(graphs, tmp_path):
    write_quantised(graphs["traced"], tmp_path / "copy.onnx", "fp32")
    assert (tmp_path / "copy.onnx").read_bytes() == graphs["traced"].read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_quantised_graph_is_a_third_as_large_or_less(graphs, precision):
    assert graphs[precision].stat().st_size < graphs["source"].stat().st_size / 3


@pytest.mark.parametrize(
    ("precision", "operator"), [("int8", "MatMulInteger"), ("int8-weights", "MatMulNBits")]
)
def test_exactly_the_constant_matrices_of_the_encoder_are_quantised(graphs, precision, operator):
    before, after = (onnx.load(graphs[name]).graph for name in ("source", precision))
    quantised = [node.name for node in after.node if node.op_type == operator]
    assert len(quantised) == 2 * MATRICES_A_LAYER
    kept = [node.name for node in after.node if node.op_type == "MatMul"]
    constants = constants_of(graphs["source"])
    of_two = [node for node in before.node if node.op_type == "MatMul"]
    assert kept == [node.name for node in of_two if node.input[1] not in constants]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_heads_and_surface_features_are_the_same_nodes_and_constants(graphs, precision):
    def beside_the_encoder(path):
        graph = onnx.load(path).graph
        named = ("head_", "/surface/", "p_frontier", "gain")
        nodes = [node for node in graph.node if node.output[0].startswith(named)]
        read = {name for node in nodes for name in node.input}
        constants = [one for one in graph.initializer if one.name in read]
        return nodes, sorted(constants, key=lambda one: one.name)

    nodes, constants = beside_the_encoder(graphs["source"])
    assert "surface.table" in {one.name for one in constants}
    assert beside_the_encoder(graphs[precision]) == (nodes, constants)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_quantised_graph_is_one_file_of_onnx_runtimes_operators(graphs, precision):
    model = onnx.load(graphs[precision], load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx.ml", "com.microsoft"}
    domains = [one.domain for one in model.opset_import]
    assert len(domains) == len(set(domains))
    assert not [one for one in model.graph.initializer if one.external_data]
    used = {name for node in model.graph.node for name in node.input}
    assert not constants_of(graphs[precision]).keys() - used
    source = onnx.load(graphs["source"]).graph
    assert list(model.graph.input) == list(source.input)
    assert list(model.graph.output) == list(source.output)


@pytest.mark.parametrize(("precision", "apart"), [("int8", 0.03), ("int8-weights", 0.005)])
def test_embeddings_stay_close(graphs, features, precision, apart):
    before, after = stacked(graphs["source"], features)[2], stacked(graphs[precision], features)[2]
    distances = 1 - (before * after).sum(axis=1)
    assert 0 < distances.max() < apart
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_heads_compute_the_same_from_a_quantised_embedding(graphs, features, heads, precision):
    p_frontier, gain, embeddings = stacked(graphs[precision], features)
    blocks = features.from_embeddings(embeddings, VIEWS)
    np.testing.assert_allclose(p_frontier, heads.p_frontier(blocks), atol=1e-5)
    np.testing.assert_allclose(gain, heads.decision_scores(blocks), atol=1e-5)


def test_padding_moves_scores_most_if_all_tokens_share_a_scale(graphs, features):
    rows = [features.encoder.tokenizer.token_ids(view) for view in VIEWS]
    padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = ids

    def strays(precision):
        (batch,) = open_session(graphs[precision]).run(["p_frontier"], {"token_ids": padded})
        return np.abs(batch - stacked(graphs[precision], features)[0]).max()

    assert strays("source") < 1e-6 < strays("int8-weights") < strays("int8") / 10


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_graph_gives_the_same_bytes(graphs, tmp_path, precision):
    paths = [tmp_path / name for name in ("once.onnx", "again.onnx")]
    for path in paths:
        write_quantised(graphs["traced"], path, precision)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_is_logged_or_printed(graphs, tmp_path, precision, caplog, capfd):
    write_quantised(graphs["traced"], tmp_path / "quiet.onnx", precision)
    open_session(tmp_path / "quiet.onnx")
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_static_encoder_has_8_bits_already(tmp_path):
    encoder = static_encoder("static", np.eye(4, dtype=np.float32), ["a", "b"])
    trace(Features("static", encoder), tmp_path / "source.onnx")
    with pytest.raises(ExportError, match="would change nothing; export it as fp32"):
        write_quantised(tmp_path / "source.onnx", tmp_path / "small.onnx", "int8")


def write_lookup(path, table, weights=None):
    """Write a graph that looks up rows of a table, and multiplies them by weights."""
    nodes = [helper.make_node("Gather", ["table", "token_ids"], ["rows"], "gather")]
    constants = [numpy_helper.from_array(table, "table")]
    if weights is not None:
        nodes.append(helper.make_node("MatMul", ["rows", "weights"], ["product"], "matmul"))
        constants.append(numpy_helper.from_array(weights, "weights"))
    output = nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "length", "width"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return output


TABLES = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=30),
    elements=st.floats(-1e3, 1e3, width=32),
)


@settings(max_examples=40)
@given(TABLES)
def test_a_word_vector_is_off_by_at_most_half_a_254th_of_its_range(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("lookup")
    output = write_lookup(folder / "source.onnx", table)
    write_quantised(folder / "source.onnx", folder / "small.onnx", "int8")
    ((found,),) = answers(folder / "small.onnx", [range(len(table))], [output])
    allowed = np.abs(table).max(axis=1, keepdims=True) / 254
    assert (np.abs(found[0] - table) <= allowed * (1 + 1e-4) + 1e-35).all()


@pytest.mark.parametrize("inputs", [16, 100, 128, 200])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_matrices_of_any_height_are_quantised(tmp_path, inputs, precision):
    random = np.random.default_rng(inputs)
    table = random.normal(size=(50, inputs)).astype(np.float32)
    weights = random.normal(size=(inputs, 24)).astype(np.float32)
    weights[:, 3] = 0
    output = write_lookup(tmp_path / "source.onnx", table, weights)
    write_quantised(tmp_path / "source.onnx", tmp_path / "small.onnx", precision)
    ((found,),) = answers(tmp_path / "small.onnx", [range(50)], [output])
    wanted = table @ weights
    assert np.abs(found[0] - wanted).max() < 0.05 * np.abs(wanted).max()
    assert not found[0][:, 3].any()


def test_no_sum_of_two_products_of_int8_leaves_16_bits(graphs):
    graph = onnx.load(graphs["int8"]).graph
    names = {node.input[1] for node in graph.node if node.op_type == "MatMulInteger"}
    constants = constants_of(graphs["int8"])
    matrices = [numpy_helper.to_array(constants[name]) for name in names]
    assert {int(np.abs(one.astype(int)).max()) for one in matrices} == {64}
    assert 2 * 255 * 64 < 2**15


def test_int8_is_what_onnx_runtimes_own_quantiser_makes(tmp_path):
    random = np.random.default_rng(0)
    # Rows that 8 bits hold exactly, so that the matrix alone makes a difference.
    table = random.integers(-127, 128, size=(50, 96)).astype(np.float32)
    table[:, 0] = 127
    weights = random.normal(size=(96, 24)).astype(np.float32)
    output = write_lookup(tmp_path / "source.onnx", table, weights)
    write_quantised(tmp_path / "source.onnx", tmp_path / "small.onnx", "int8")
    quantize_dynamic(
        tmp_path / "source.onnx",
        tmp_path / "reference.onnx",
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )
    found, wanted = (
        answers(tmp_path / name, [range(50)], [output])[0][0]
        for name in ("small.onnx", "reference.onnx")
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_graph_without_an_encoder_is_refused(tmp_path, precision):
    write_lookup(tmp_path / "source.onnx", np.ones((3, 4)))
    with pytest.raises(ExportError, match=r"neither word vectors nor matrices.*export it as fp32"):
        write_quantised(tmp_path / "source.onnx", tmp_path / "small.onnx", precision)
    assert not (tmp_path / "small.onnx").exists()


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'int4' is not a precision; choose one of"):
        write_quantised(tmp_path / "source.onnx", tmp_path / "small.onnx", "int4")
