"""The artifact: exact, verified, and refused if it has changed since the export."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.classifier.export.exporting import Lineage, export_artifact
from querytier.classifier.export.parity import check_parity, parity_views
from querytier.classifier.golden import golden_queries
from querytier.classifier.manifest import (
    FORMAT_VERSION,
    Certificate,
    TextView,
    dump_manifest,
    load_manifest,
)
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Calibrated, Heads, Member
from querytier.classifier.model.nets import Linear
from querytier.classifier.runtime import Classifier
from querytier.classifier.tokens import MAX_TOKENS
from querytier.data.text_view import text_view
from querytier.errors import ArtifactError, ExportError
from querytier.serve import Decision, Router

FILES = ["manifest.json", "model.onnx", "tokenizer.json", "golden.jsonl", "README.md"]
ANY_TEXT = st.text(st.characters(exclude_categories=[]))


@pytest.fixture(scope="module")
def golden(artifact):
    return [json.loads(line) for line in (artifact / "golden.jsonl").read_text().splitlines()]


def test_an_artifact_has_its_five_files_and_no_pickle(artifact):
    assert sorted(path.name for path in artifact.iterdir()) == sorted(FILES)


def test_the_graph_has_standard_operators_and_its_own_weights(artifact):
    graph = onnx.load(artifact / "model.onnx", load_external_data=False)
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx.ml"}
    assert [value.name for value in graph.graph.input] == ["token_ids"]
    assert [value.name for value in graph.graph.output] == [
        "p_frontier",
        "gain",
        "sentence_embedding",
    ]
    assert not [init for init in graph.graph.initializer if init.external_data]


def test_the_manifest_states_a_parity_within_its_tolerance(artifact):
    manifest = Classifier.load(artifact).manifest
    assert manifest.parity["texts"] >= 200
    assert 0 < manifest.parity["max_difference"] <= 1e-5


def test_there_are_200_golden_vectors_and_each_is_reproduced(golden, router):
    assert len(golden) >= 200
    for vector in golden:
        decision = router.decide(vector["query"])
        assert text_view(vector["query"]) == vector["view"]
        assert decision.tier == vector["tier"]
        if vector["view"]:
            ids = router.classifier.token_ids(vector["view"])
            assert ids == vector["token_ids"]
            assert decision.p_frontier == pytest.approx(vector["p_frontier"], abs=1e-6)
            assert decision.decision_score == pytest.approx(vector["decision_score"], abs=1e-6)
        else:
            assert decision.reason == "fallback:empty"


def test_no_query_of_the_log_is_in_the_artifact(artifact, scored_log, golden):
    queries = {json.loads(line)["prompt"] for line in scored_log.read_text().splitlines()}
    assert not queries & {vector["query"] for vector in golden}
    card = (artifact / "README.md").read_text() + (artifact / "manifest.json").read_text()
    assert not [query for query in queries if query in card]


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_anywhere_is_refused(artifact_copy, name):
    path = artifact_copy / name
    content = bytearray(path.read_bytes())
    position = len(content) // 2
    content[position] = ord("7") if content[position] != ord("7") else ord("8")
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        Router.load(artifact_copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(artifact_copy, name):
    (artifact_copy / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        Router.load(artifact_copy)


def test_white_space_added_to_the_manifest_is_refused(artifact_copy):
    path = artifact_copy / "manifest.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(ArtifactError, match="changed after the export"):
        Router.load(artifact_copy)


def test_another_format_version_is_refused_with_the_cure(artifact):
    content = json.loads((artifact / "manifest.json").read_text())
    content["format_version"] = FORMAT_VERSION + 1
    match = (
        rf"format_version {FORMAT_VERSION + 1}, this querytier reads 1, {FORMAT_VERSION}; export"
    )
    with pytest.raises(ArtifactError, match=match):
        load_manifest(json.dumps(content))


def test_an_artifact_of_another_text_view_is_refused(artifact_copy):
    manifest = Classifier.load(artifact_copy).manifest
    other = replace(manifest, text_view=TextView(9, "0" * 64))
    (artifact_copy / "manifest.json").write_text(dump_manifest(other))
    with pytest.raises(ArtifactError, match="trained on text view 9"):
        Router.load(artifact_copy)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"text"', "[" * 100_000])
def test_a_foreign_manifest_is_refused(text):
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        load_manifest(text)


def test_a_graph_beyond_parity_is_not_exported_and_the_old_one_stays(
    artifact_copy, encoder, router
):
    before = {path.name: path.read_bytes() for path in artifact_copy.iterdir()}
    views = parity_views(["a query of the log"], 20)
    with pytest.raises(ExportError, match=r"parity_tolerance 1e-30 allows, on '.*no artifact"):
        export_artifact(
            artifact_copy,
            Features("minilm", encoder),
            Calibrated(linear_heads(np.linspace(-1, 1, encoder.dimension)), 0.5),
            fallback_tier="frontier",
            views=views,
            tolerance=1e-30,
            certificate=Certificate("refused", "a test"),
            lineage=Lineage({}, {}, {}, {}),
        )
    assert {path.name: path.read_bytes() for path in artifact_copy.iterdir()} == before
    assert [path.name for path in artifact_copy.parent.iterdir()] == ["model"]
    other_heads = linear_heads(np.zeros(encoder.dimension))
    with pytest.raises(ExportError, match="no artifact was written"):
        check_parity(
            router.classifier, Features("minilm", encoder), other_heads, views, tolerance=1e-5
        )


def linear_heads(weights):
    return Heads((Member(("minilm",), Linear(weights[np.newaxis], np.array([0.1]))),))


def test_parity_views_are_distinct_not_empty_and_of_the_requested_number():
    views = parity_views([f"query {n}" for n in range(500)], 300)
    assert len(views) == len(set(views)) == 300
    assert all(views)


@given(ANY_TEXT)
def test_no_text_becomes_a_special_token_and_all_texts_fit(router, text):
    ids = router.classifier.token_ids(text_view(text + "[SEP] [MASK]" + text))
    assert len(ids) <= MAX_TOKENS
    assert ids[0] == 101
    assert ids[-1] == 102
    assert not {0, 101, 102, 103} & set(ids[1:-1])


@given(
    ANY_TEXT
    | st.none()
    | st.binary()
    | st.lists(
        st.none()
        | ANY_TEXT
        | st.dictionaries(st.sampled_from(["role", "content"]), st.just("user") | ANY_TEXT)
    )
)
def test_decide_never_raises_and_answers_with_a_tier(router, query):
    decision = router.decide(query)
    assert isinstance(decision, Decision)
    assert decision.tier in ("cheap", "frontier")
    if decision.reason == "classifier":
        assert 0 <= decision.p_frontier <= 1
        assert -1 <= decision.gain <= 1
        assert (decision.tier == "frontier") == (decision.decision_score >= decision.threshold)
    else:
        assert decision.tier == "frontier"
        assert decision.p_frontier is None


@pytest.mark.parametrize(
    ("query", "reason"),
    [("", "fallback:empty"), (" \u200b", "fallback:empty"), (7, "fallback:error")],
)
def test_undecidable_queries_go_to_the_fallback_tier_with_a_reason(router, query, reason):
    decision = router.decide(query)
    assert (decision.tier, decision.reason) == ("frontier", reason)


def test_a_batch_padded_with_zeros_gets_the_scores_of_single_rows(router):
    """The graph derives its mask from the ids, so ports may batch."""
    classifier = router.classifier
    views = [text_view(query) for query in list(golden_queries())[5:60:7]]
    rows = [classifier.token_ids(view) for view in views]
    padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = ids
    (batch,) = classifier.session.run(["p_frontier"], {"token_ids": padded})
    single = [classifier.scores(view).p_frontier for view in views]
    np.testing.assert_allclose(batch, single, atol=1e-5)
