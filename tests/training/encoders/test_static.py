"""The static encoder: its tokens, its distillation, and its artifact."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from querytier.classifier.export.exporting import Lineage, export_artifact
from querytier.classifier.export.parity import parity_views
from querytier.classifier.manifest import Certificate
from querytier.classifier.model.encoder import load_encoder
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Calibrated, Heads, Member
from querytier.classifier.model.nets import Linear
from querytier.classifier.model.words import word_tokenizer, words_of
from querytier.data.text_view import text_view
from querytier.errors import TrainingError
from querytier.serve import Router
from querytier.training.encoders.static import (
    STATIC_MAX_TOKENS,
    distil,
    read_static,
    static_encoder,
    write_static,
)
from querytier.training.encoders.word_vectors import refine, word_projection


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Use one thread, on which `distil` is repeatable."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def views(scored_log):
    """Return views of 200 queries in random order."""
    lines = scored_log.read_text("utf-8").splitlines()
    rows = np.random.default_rng(5).choice(len(lines), 200, replace=False)
    return [text_view(json.loads(lines[row])["prompt"]) for row in rows]


@pytest.fixture(scope="module")
def teacher():
    """Return one layer of MiniLM: its embeddings are cheap, and no sums of word vectors."""
    return load_encoder(layers=1)


@pytest.fixture(scope="module")
def embeddings(teacher, views):
    return teacher.encode(views)


@pytest.fixture(scope="module")
def distilled(teacher, views, embeddings):
    """Return encoders distilled on the first 140 views, with and without refinement."""
    return [
        distil(
            teacher,
            views[:140],
            words=300,
            dimension=64,
            seed=3,
            embeddings=embeddings[:140],
            epochs=epochs,
        )
        for epochs in (30, 0)
    ]


@pytest.fixture(scope="module")
def small_teacher(views):
    """Return a teacher of random word vectors."""
    vocabulary = sorted({word for view in views for word in words_of(view)})
    table = np.random.default_rng(1).normal(size=(len(vocabulary) + 2, 24))
    return static_encoder("small", table.astype(np.float32), vocabulary)


@pytest.fixture(scope="module")
def static(distilled):
    return distilled[0]


def test_every_word_of_a_view_counts(static):
    ids = static.tokenizer.token_ids(text_view("7" * 2_100 + "?" * 2_100))
    assert len(ids) == STATIC_MAX_TOKENS - len(" ... ") + 3
    assert ids[0] != ids[-1]


def test_frequent_words_come_first_then_the_teacher_s():
    teacher = static_encoder(
        "small", np.eye(8, dtype=np.float32), ["é", "the", "b", "zyx", "of", "?"]
    )
    views = ["zyx abc", "zyx abc", "zyx once"] * 2 + ["qqq", "www", "eee", "rrr"]

    def vocabulary(words):
        static = distil(teacher, views, words=words, dimension=4, seed=0, epochs=0)
        return list(json.loads(static.tokenizer_json)["model"]["vocab"])

    reserved, recurring = ["<pad>", "<unk>"], ["zyx", "abc", "once"]
    assert vocabulary(20) == [*reserved, *recurring, "the", "b", "of", "?", "é"]
    assert vocabulary(4) == [*reserved, *recurring, "the"]


def test_an_embedding_is_the_direction_of_the_sum_of_its_words():
    table = np.array([[0, 0], [0, 0], [4, 0], [0, 1]], np.float32)
    static = static_encoder("two words", table, ["far", "up"])
    embeddings = static.encode(["far", "up", "far up up up up", "FAR-off up up up"])
    np.testing.assert_allclose(embeddings, [[1, 0], [0, 1], [0.5**0.5] * 2, [0.8, 0.6]], atol=1e-6)


def test_refinement_brings_unseen_views_nearer_to_the_teacher(distilled, views, embeddings):
    """Measured by the similarities between 60 views that were not used to distil."""
    pairs = np.triu_indices(60, 1)

    def similarities(vectors):
        return (vectors @ vectors.T)[pairs]

    of_teacher = similarities(embeddings[140:])
    refined_one, plain = (
        np.corrcoef(similarities(each.encode(views[140:])), of_teacher)[0, 1] for each in distilled
    )
    assert refined_one > plain + 0.02


def test_sums_of_word_vectors_are_the_same_in_any_order(static):
    powers = static.model.get_buffer("powers").numpy()
    table = static.model.get_buffer("table").numpy() * powers[:, np.newaxis]
    rows = np.random.default_rng(9).integers(1, len(table), STATIC_MAX_TOKENS)
    rows[: STATIC_MAX_TOKENS // 2] = np.abs(table).max(axis=1).argmax()
    exact = table[rows].astype(np.float64).sum(axis=0)
    for order in (rows, rows[::-1], np.random.default_rng(8).permutation(rows)):
        one_by_one = np.add.accumulate(table[order], dtype=np.float32)[-1]
        np.testing.assert_array_equal(one_by_one, exact)


@given(arrays(np.float32, (6, 5), elements=st.floats(-8, 8, width=32)), st.floats(-3, 0))
def test_a_word_vector_is_off_by_at_most_a_128th_of_its_maximum(table, shrink):
    """Or, for tiny vectors, by half a step of the whole table."""
    table[0], table[1], table[2] = 0, 8, table[2] * np.float32(10**shrink)
    model = static_encoder("words", table, list("abcd")).model
    kept = model.get_buffer("table").numpy() * model.get_buffer("powers").numpy()[:, np.newaxis]
    kept *= 8 / kept.max()
    largest = np.abs(table).max(axis=1, keepdims=True)
    allowed = np.maximum(largest / 128, 8 / (127 * 32) / 2) * 1.001
    assert (np.abs(kept - table) <= allowed).all()


def test_refined_vectors_point_nearer_to_unseen_targets():
    generator = np.random.default_rng(2)
    truth = generator.normal(size=(50, 8)).astype(np.float32)
    rows = [generator.integers(1, 50, 6).tolist() for _ in range(400)]
    targets = np.array([truth[row].sum(axis=0) for row in rows])
    start = truth + generator.normal(size=truth.shape).astype(np.float32)
    better = refine(start, rows[:300], targets[:300], epochs=30, seed=1)

    def cosine(table):
        sums = np.array([table[row].sum(axis=0) for row in rows[300:]])
        lengths = np.linalg.norm(sums, axis=1) * np.linalg.norm(targets[300:], axis=1)
        return ((sums * targets[300:]).sum(axis=1) / lengths).mean()

    assert cosine(better) > cosine(start) + 0.05


def test_a_projection_keeps_lengths_along_its_axes():
    generator = np.random.default_rng(4)
    plane = generator.normal(size=(2, 6)).astype(np.float32)
    words, views = (generator.normal(size=(40, 2)).astype(np.float32) @ plane for _ in range(2))
    projection = word_projection(words, views, 2)
    for embeddings, project in ((words, projection.words), (views, projection.views)):
        lengths = np.linalg.norm(embeddings - embeddings.mean(axis=0), axis=1)
        np.testing.assert_allclose(
            np.linalg.norm(project(embeddings), axis=1), lengths, rtol=1e-4, atol=1e-5
        )


def test_the_encoder_depends_on_the_seed_alone(small_teacher, views):
    def sha256(seed):
        return distil(small_teacher, views, dimension=16, seed=seed, epochs=3).weights_sha256

    assert sha256(1) == sha256(1)
    assert sha256(1) != sha256(2)


def test_queries_of_unknown_words_have_finite_embeddings(static):
    embeddings = static.encode(["ᏣᎳᎩ", "qzxv qzxw", "½", " ", ""])
    assert np.isfinite(embeddings).all()
    blank = static_encoder("blank", np.zeros((3, 4), np.float32), ["word"])
    assert not blank.encode(["word", "other", ""]).any()


def test_a_static_encoder_passes_the_parity_gate_and_decides(static, views, tmp_path):
    weights = np.random.default_rng(0).normal(size=(1, static.dimension))
    heads = Heads((Member(("static",), Linear(weights, np.array([0.2]))),))
    manifest = export_artifact(
        tmp_path / "model",
        Features("static", static),
        Calibrated(heads, 0.5),
        fallback_tier="frontier",
        views=parity_views(views, 250),
        tolerance=1e-5,
        certificate=Certificate("refused", "a test"),
        lineage=lineage(),
    )
    assert manifest.max_tokens == STATIC_MAX_TOKENS
    assert not (tmp_path / "model" / "tokenizer.json").exists()
    assert manifest.encoder["name"] == static.name
    router = Router.load(tmp_path / "model")
    for query in ["Why is the sky blue?", "ᏣᎳᎩ", "½", "word " * 5_000]:
        embeddings = static.encode([text_view(query)])
        expected = heads.p_frontier({"static": embeddings})[0]
        assert router.decide(query).p_frontier == pytest.approx(expected, abs=1e-5)


def lineage():
    area = {"value": 0.5, "low": 0.4, "high": 0.6}
    metrics = {
        "target_frontier_rate": 0.5,
        "chosen": "lr",
        "calibration": "platt",
        "calibration_rows": 1,
        "cross_validated_auroc": area,
    }
    rule = {"rules": ["stated"], "ok_threshold": 0.5}
    data = {"splits": {}, "label_sources": {}, "source": "a test", "needs_frontier": 0.5}
    return Lineage(label_rule=rule, metrics=metrics, data=data, code={})


def test_a_static_encoder_is_read_back_unchanged(static, tmp_path):
    write_static(static, tmp_path / "static")
    again = read_static(tmp_path / "static")
    assert (again.name, again.weights_sha256) == (static.name, static.weights_sha256)
    assert (again.dimension, again.max_tokens) == (64, STATIC_MAX_TOKENS)
    queries = ["Is the kettle back in stock?", "Prove it."]
    np.testing.assert_array_equal(again.encode(queries), static.encode(queries))


def test_a_changed_or_missing_static_encoder_is_refused(static, tmp_path):
    write_static(static, tmp_path / "static")
    (tmp_path / "static" / "tokenizer.json").write_text(word_tokenizer(["other"]), "utf-8")
    with pytest.raises(TrainingError, match=r"sha256 .* distil it again"):
        read_static(tmp_path / "static")
    with pytest.raises(TrainingError, match="holds no static encoder"):
        read_static(tmp_path)


def test_wrong_arguments_are_refused(teacher, views, embeddings):
    with pytest.raises(ValueError, match="dimension 500 is more than the teacher's 384"):
        distil(teacher, views, dimension=500, seed=0)
    with pytest.raises(TrainingError, match="2 text views are too few"):
        distil(teacher, views[:2], seed=0)
    with pytest.raises(ValueError, match=r"shape \(7, 384\) for 200 views"):
        distil(teacher, views, seed=0, embeddings=embeddings[:7])
