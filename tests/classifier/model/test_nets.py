"""Nets and terms: the graph computes what was fitted."""

from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer

from querytier.classifier.model.calibrator import Calibrator
from querytier.classifier.model.head import Heads, Member
from querytier.classifier.model.nets import Linear
from querytier.classifier.model.onnx_nodes import Nodes
from querytier.classifier.model.terms import TermTable
from querytier.pipeline.feature_blocks import principal_components
from querytier.training.boosted_trees import between_rows, trees_of
from querytier.training.linear_models import fit_mlp, gain_rows, soft_rows

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(200, 6)).astype(np.float32)
NEED = (FEATURES[:, 0] * FEATURES[:, 1] + RANDOM.normal(size=200) > 0).astype(float)
BOOSTING = {"max_iter": 30, "max_leaf_nodes": 8, "min_samples_leaf": 5, "random_state": 0}


def session(nodes, outputs, inputs):
    """Return a session of a graph of these nodes only."""
    values = [helper.make_tensor_value_info(*one) for one in inputs]
    graph = helper.make_graph([], "graph", values, [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    nodes.append_to(model, outputs)
    onnx.checker.check_model(model)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def graph_of(net):
    """Return the session of a net over six features."""
    nodes = Nodes("head")
    last = net.add_to(nodes, "features")
    flat = nodes.add("Reshape", [last, nodes.constant(np.array([-1]))])
    return session(nodes, {"outputs": flat}, [("features", TensorProto.FLOAT, ["batch", 6])])


def served(graph, features):
    """Return the outputs of a graph, computed row by row."""
    return np.array([graph.run(["outputs"], {"features": row[np.newaxis]})[0] for row in features])


def test_trees_equal_scikit_learn_and_the_graph():
    gains = NEED - 0.5
    for model in (
        HistGradientBoostingRegressor(**BOOSTING).fit(FEATURES, gains),
        HistGradientBoostingClassifier(**BOOSTING).fit(FEATURES, NEED),
    ):
        trees = trees_of(model)
        said = getattr(model, "decision_function", model.predict)(FEATURES)
        np.testing.assert_allclose(trees.outputs(FEATURES)[:, 0], said, atol=1e-12)
        np.testing.assert_allclose(served(graph_of(trees), FEATURES)[:, 0], said, atol=1e-5)


TREES = HistGradientBoostingRegressor(**BOOSTING).fit(FEATURES, NEED)


def test_features_next_to_a_split_go_the_same_way_everywhere():
    trees = trees_of(TREES)
    splits = np.flatnonzero(trees.feature >= 0)
    features = FEATURES[RANDOM.integers(0, 200, size=3 * len(splits))]
    values = trees.threshold[splits]
    near = [values, *(np.nextafter(values, np.float32(way)) for way in (-np.inf, np.inf))]
    rows = np.arange(len(features))
    features[rows, np.tile(trees.feature[splits], 3)] = np.concatenate(near)
    said = TREES.predict(features)
    np.testing.assert_allclose(trees.outputs(features)[:, 0], said, atol=1e-12)
    np.testing.assert_allclose(served(graph_of(trees), features)[:, 0], said, atol=1e-5)


@given(st.integers(0, 10**6))
def test_a_split_midway_between_rows_separates_them_as_before(seed):
    random = np.random.default_rng(seed)
    features = random.choice([0.0, 0.1, 0.3, 1 / 3, 7.0], size=(60, 2)).astype(np.float32)
    model = HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=3)
    trees = trees_of(model.fit(features, random.normal(size=60)))
    moved = between_rows(trees, features)
    np.testing.assert_array_equal(moved.outputs(features), trees.outputs(features))
    for column in (0, 1):
        thresholds = moved.threshold[moved.feature == column]
        assert not set(thresholds.tolist()) & set(features[:, column].tolist())


@pytest.mark.parametrize("outcomes", [2, 3])
def test_a_hidden_layer_equals_its_graph_and_learns_a_product(outcomes):
    labels = soft_rows(NEED, np.ones(200))
    if outcomes == 3:
        labels = gain_rows(NEED, np.ones(200))
    net = fit_mlp(FEATURES, labels, outcomes, hidden=8, decay=0.1, seed=0)
    outputs = net.outputs(FEATURES)
    assert outputs.shape == (200, 1 if outcomes == 2 else 3)
    np.testing.assert_allclose(served(graph_of(net), FEATURES), outputs, atol=1e-5)


def test_principal_components_are_uncorrelated_widest_first_and_few():
    net = principal_components(FEATURES, most=3)
    covariance = np.cov(net.outputs(FEATURES).T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-6)
    assert (np.diff(np.diag(covariance)) < 0).all()
    assert principal_components(FEATURES[:4]).weights.shape == (4, 6)


TOKEN_IDS = st.lists(st.lists(st.integers(1, 9), max_size=12), min_size=1, max_size=12)


@given(TOKEN_IDS, TOKEN_IDS)
def test_terms_are_scikit_learns_tf_idf_of_tokens_and_pairs(train, asked):
    table = TermTable.fitted_to(train)
    vectoriser = TfidfVectorizer(
        analyzer=lambda ids: [*((i,) for i in ids), *pairwise(ids)],
        min_df=2,
        sublinear_tf=True,
    )
    known = [(token,) for token in table.tokens.tolist()] + [tuple(p) for p in table.pairs.tolist()]
    try:
        vectoriser.fit(train)
    except ValueError:
        assert not known
        return
    assert sorted(known) == sorted(vectoriser.vocabulary_)
    places = [vectoriser.vocabulary_[term] for term in known]
    expected = vectoriser.transform(asked).toarray()[:, places]
    np.testing.assert_allclose(table.features(asked).toarray(), expected, atol=1e-6)


def test_the_graph_of_terms_equals_the_table_with_or_without_padding():
    train = [RANDOM.integers(1, 40, size=20).tolist() for _ in range(60)]
    asked = [*train[:20], [39], [1, 2] * 30, [7777, 1]]
    table = TermTable.fitted_to(train)
    nodes = Nodes("head")
    weights = RANDOM.normal(size=(1, len(table.weights)))
    outputs = Linear(weights, np.zeros(1)).add_to(nodes, table.add_to(nodes, "token_ids"))
    flat = nodes.add("Reshape", [outputs, nodes.constant(np.array([-1]))])
    one = session(nodes, {"score": flat}, [("token_ids", TensorProto.INT64, ["batch", "length"])])
    expected = (table.features(asked) @ weights.T)[:, 0]
    padded = np.zeros((len(asked), 70), dtype=np.int64)
    for row, ids in enumerate(asked):
        padded[row, : len(ids)] = ids
        (alone,) = one.run(["score"], {"token_ids": np.array([ids])})
        assert alone[0] == pytest.approx(expected[row], abs=1e-5)
    np.testing.assert_allclose(one.run(["score"], {"token_ids": padded})[0], expected, atol=1e-5)


def test_the_most_frequent_terms_are_kept():
    train = [[1, 5], [1, 6], [1, 7], [2, 8], [2, 9], [3, 3]]
    assert TermTable.fitted_to(train, limit=1).tokens.tolist() == [1]
    assert TermTable.fitted_to(train, limit=9).tokens.tolist() == [1, 2]


@pytest.mark.parametrize("ranks_by", ["gain", "p_frontier"])
def test_heads_of_several_members_equal_their_graph(ranks_by):
    linear = (Linear(RANDOM.normal(size=(k, 6)), RANDOM.normal(size=k)) for k in (1, 3))
    trees = trees_of(TREES)
    members = (Member(("one",), *linear), Member(("two", "one"), trees, trees))
    blocks = {"one": FEATURES, "two": FEATURES[:, :3]}
    heads = Heads(members, ranks_by, Calibrator(0.7, 1.2, -0.3))
    nodes = Nodes("head")
    outputs = heads.add_to(nodes, {name: name for name in blocks})
    assert ("gain" in outputs) == (ranks_by == "gain")
    inputs = [
        (name, TensorProto.FLOAT, ["batch", block.shape[1]]) for name, block in blocks.items()
    ]
    said = dict(
        zip(outputs, session(nodes, outputs, inputs).run(list(outputs), blocks), strict=True)
    )
    np.testing.assert_allclose(said["p_frontier"], heads.p_frontier(blocks), atol=1e-5)
    np.testing.assert_allclose(said[ranks_by], heads.decision_scores(blocks), atol=1e-5)
