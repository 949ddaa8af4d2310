"""What a graph may contain: anything else is refused with the reason before it runs."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from querytier.classifier import graph_file
from querytier.classifier.graph_file import check_graph
from querytier.errors import ArtifactError

WEIGHTS = numpy_helper.from_array(np.arange(3000, dtype=np.float32), "weights")


def graph_of(*nodes, initializers=(WEIGHTS,)):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    return helper.make_graph(list(nodes), "graph", [value], [out], list(initializers))


def listing(count):
    """Return a node with the long lists that trees have."""
    return helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        nodes_values=[0.5] * count,
        nodes_nodeids=list(range(count)),
        nodes_modes=["BRANCH_LEQ", "LEAF"] * count,
        long_names=["x" * 40] * 3,
    )


def branching(inner):
    """Return a node whose branches contain a node."""
    branches = {"then_branch": graph_of(inner), "else_branch": graph_of(inner)}
    return helper.make_node("If", ["x"], ["y"], **branches)


@pytest.fixture
def checked(tmp_path):
    """Return a function that saves a graph and checks it."""

    def check(graph, **changes):
        path = tmp_path / "model.onnx"
        path.write_bytes(helper.make_model(graph, **changes).SerializeToString())
        check_graph(path)

    return check


def external():
    tensor = TensorProto(name="weights", dims=[3], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


PLAIN = helper.make_node("Relu", ["x"], ["y"])
FOREIGN = helper.make_node("Shell", ["x"], ["y"], domain="evil.example")


@pytest.mark.parametrize(
    "node",
    [
        PLAIN,
        listing(500),
        branching(PLAIN),
        helper.make_node("Tokenizer", ["x"], ["y"], domain="com.microsoft"),
    ],
)
def test_operators_that_stock_onnx_runtime_ships_are_accepted(checked, node):
    checked(graph_of(node))


@pytest.mark.parametrize("node", [FOREIGN, branching(FOREIGN), branching(branching(FOREIGN))])
def test_an_operator_of_another_domain_is_refused_anywhere(checked, node):
    with pytest.raises(ArtifactError, match=r"the operator evil\.example\.Shell; an artifact is"):
        checked(graph_of(listing(50), node))


@pytest.mark.parametrize("inside", [False, True])
def test_weights_in_other_files_are_refused(checked, inside):
    constant = helper.make_node("Constant", [], ["y"], value=external())
    graph = graph_of(branching(constant)) if inside else graph_of(PLAIN, initializers=[external()])
    with pytest.raises(ArtifactError, match="keeps weights in other files"):
        checked(graph)


def test_functions_are_refused(checked):
    opset = helper.make_opsetid("", 18)
    function = helper.make_function("own", "f", ["x"], ["y"], [PLAIN], [opset])
    with pytest.raises(ArtifactError, match="defines functions"):
        checked(graph_of(PLAIN), functions=[function])


def test_a_graph_beyond_the_limit_is_refused(checked, monkeypatch):
    monkeypatch.setattr(graph_file, "MAX_GRAPH_BYTES", 1000)
    with pytest.raises(ArtifactError, match="a graph has 1 to 1,000: distil or quantise"):
        checked(graph_of(PLAIN))


@given(data=st.data())
def test_a_graph_cut_short_is_refused(data, tmp_path_factory):
    content = helper.make_model(graph_of(PLAIN, listing(5))).SerializeToString()
    end = data.draw(st.integers(0, len(content) - 20))
    path = tmp_path_factory.mktemp("cut") / "model.onnx"
    path.write_bytes(content[:end])
    with pytest.raises(ArtifactError, match=r"not an ONNX graph|a graph has 1 to"):
        check_graph(path)


@given(st.binary(min_size=1))
def test_any_bytes_are_either_a_graph_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "model.onnx"
    path.write_bytes(content)
    try:
        check_graph(path)
    except ArtifactError:
        return
    # What is accepted is a graph, if an empty one.
    assert b"\x3a" in content


def test_the_graph_of_a_run_is_accepted(artifact):
    check_graph(artifact / "model.onnx")
    nodes = onnx.load(artifact / "model.onnx").graph.node
    assert {node.domain for node in nodes} <= graph_file.DOMAINS
