"""How typical a query is: the meaning of the number, and the same from the graph."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from querytier.classifier.export.exporting import Lineage, TypicalQueries, export_artifact
from querytier.classifier.manifest import Certificate
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Calibrated, Heads, Member
from querytier.classifier.model.nets import Linear
from querytier.classifier.model.onnx_nodes import Nodes
from querytier.classifier.model.typicality import Typicality
from querytier.classifier.runtime import Classifier
from querytier.data.text_view import text_view


def embeddings(count, seed, shift=0.0):
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(count, 6)) @ np.diag([3, 2, 1, 1, 0.5, 0.1])
    return (mixed + shift).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
    return Typicality.fitted_to(embeddings(2000, 1), embeddings(999, 2))


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_at_most_a_share_p_of_typical_queries_has_typicality_p(share):
    """A law over 60 fits: the mean rejection rate is the level, up to chance."""
    rates = []
    for seed in range(60):
        one = Typicality.fitted_to(embeddings(300, 3 * seed), embeddings(299, 3 * seed + 1))
        rates.append((one.of(embeddings(300, 3 * seed + 2)) <= share).mean())
    error = np.std(rates) / 60**0.5
    assert np.mean(rates) == pytest.approx(share, abs=4 * error)


def test_queries_of_other_traffic_are_less_typical(fitted):
    near, far = fitted.of(embeddings(500, 3)), fitted.of(embeddings(500, 4, shift=2.0))
    assert (near <= 0.01).mean() < 0.03
    assert (far <= 0.01).mean() > 0.95


@given(arrays(np.float32, (4, 6), elements=st.floats(-50, 50, width=32)))
def test_typicality_is_above_0_and_at_most_1(vectors):
    one = Typicality.fitted_to(embeddings(50, 1), embeddings(30, 2))
    found = one.of(vectors)
    assert ((found > 0) & (found <= 1)).all()


def test_unused_dimensions_do_not_make_the_distance_infinite():
    flat = np.hstack([embeddings(300, 1), np.zeros((300, 2), np.float32)])
    one = Typicality.fitted_to(flat, flat[:50])
    assert np.isfinite(one.whitening.weights).all()
    assert np.isfinite(one.distances).all()


def test_the_graph_computes_the_same_typicality(fitted):
    from onnx import TensorProto, helper

    nodes = Nodes("head")
    output = fitted.add_to(nodes, "embedding")
    given_ = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 6])
    graph = helper.make_graph([], "typicality", [given_], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    nodes.append_to(model, {"typicality": output})
    session = ort.InferenceSession(model.SerializeToString())
    asked = np.concatenate([embeddings(300, 5), embeddings(50, 6, shift=3.0)])
    (served,) = session.run(["typicality"], {"embedding": asked})
    assert np.abs(served - fitted.of(asked)).max() <= 0.002


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    """Return an artifact for which a hundred queries about orders are typical."""
    orders = [text_view(f"Where is my order number {n}, sent on day {n % 28}?") for n in range(200)]
    folder = tmp_path_factory.mktemp("typical") / "model"
    data = {"source": "s", "splits": {}, "label_sources": {}, "needs_frontier": 0.5}
    export_artifact(
        folder,
        Features("minilm", encoder),
        Calibrated(Heads((Member(("minilm",), Linear(np.ones((1, 384)), np.zeros(1))),)), 0.5),
        fallback_tier="frontier",
        views=orders[:20],
        tolerance=1e-4,
        certificate=Certificate("refused", "a test"),
        lineage=Lineage(
            {"rules": ["explicit"], "ok_threshold": 0.5},
            {
                "chosen": "lr",
                "calibration": "platt",
                "calibration_rows": 9,
                "target_frontier_rate": 0.3,
                "cross_validated_auroc": {"value": 0.5, "low": 0.4, "high": 0.6},
            },
            data,
            {},
        ),
        typical=TypicalQueries(encoder.encode(orders[:100]), orders[100:]),
    )
    return Classifier.load(folder)


def test_an_artifact_computes_typicality_only_on_request(exported):
    assert exported.has_typicality
    view = "Where is my order number 7, sent on day 3?"
    assert exported.scores(view).typicality is None
    assert exported.scores(view, typicality=True).typicality > 0.01
    strange = "\u8bf7\u628a\u8fd9\u53e5\u8bdd\u7ffb\u8bd1\u6210\u82f1\u6587"
    assert exported.scores(strange, typicality=True).typicality <= 0.01


def test_artifacts_of_few_rows_or_older_formats_have_no_typicality(router):
    assert not router.classifier.has_typicality
