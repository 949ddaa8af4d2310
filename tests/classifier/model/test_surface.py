"""Surface features: the same numbers in numpy, torch and ONNX Runtime, and their laws."""

import json
import random
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from querytier.classifier.export.onnx_graph import OPSET
from querytier.classifier.golden import golden_queries
from querytier.classifier.model.surface import SurfaceTable, surface_table
from querytier.classifier.tokens import MAX_TOKENS
from querytier.data.text_view import text_view
from querytier.errors import TrainingError

VOCABULARY = 30_522
TOKENS = st.lists(st.integers(0, VOCABULARY - 1), max_size=MAX_TOKENS)
TEXT_WITH = {
    "tokens": ("red", 1),
    "characters": ("red", 3),
    "word_starts": ("unfathomableness", 1),
    "long_tokens": ("red constitution", 1),
    "ranks": ("red", 0.754),
    "unknown": ("🦥", 1),
    "numbers": ("7 of 19 by 1848", 3),
    "long_numbers": ("7 of 19 by 1848", 1),
    "option_letters": ("A. red B. blue", 2),
    "symbol_letters": ("x and y, b", 3),
    "punctuation": ("red; blue!", 2),
    "code_marks": ("def f(x): return x", 2),
    "maths_marks": ("3 + 4 = 7", 2),
    "quotation_marks": ('the "red" one', 2),
    "apostrophes": ("it's", 1),
    "question_marks": ("Really? 真的？", 2),
    "full_stops": ("Pi is 3.14.", 2),
    "commas": ("red, blue", 1),
    "colons": ("red: blue; green", 2),
    "heuristic_words": ("Why not compare them", 2),
    "reasoning_words": ("Explain and PROVE it", 2),
    "writing_words": ("Translate a poem", 2),
    "fact_questions": ("who and when", 2),
    "open_questions": ("how and why", 2),
    "verb_questions": ("Does it, or is it", 2),
    "maths_words": ("the derivative of a polynomial", 2),
    "code_words": ("a python function", 2),
    "conditions": ("if red then blue", 2),
    "negations": ("It isn't red, never", 2),
    "modal_words": ("we should or must", 2),
    "comparisons": ("more than the best", 3),
    "quantifiers": ("all of every one", 2),
    "order_words": ("first red, finally blue", 2),
    "person_words": ("you and me", 2),
    "function_words": ("the end of it", 3),
    "latin_script": ("red 7", 1),
    "cyrillic_script": ("да", 2),
    "arabic_script": ("لا", 2),
    "cjk_script": ("日本", 2),
    "other_scripts": ("α β", 2),
}


@pytest.fixture(scope="module")
def raw(encoder):
    return surface_table(encoder.tokenizer.json)


@pytest.fixture(scope="module")
def token_ids(encoder):
    """Return ids of queries of all kinds, one of them empty and one at the limit."""
    views = [text_view(query) for query in golden_queries()]
    ids = [encoder.tokenizer.token_ids(view) for view in [*views, "red and blue or " * 60]]
    assert len(ids[-1]) == MAX_TOKENS
    return [*ids, []]


@pytest.fixture(scope="module")
def fitted(raw, token_ids):
    return raw.fitted_to(token_ids)


@pytest.fixture(scope="module")
def graph(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("surface") / "surface.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            fitted.module(),
            (torch.tensor([[101, 2003, 102]]),),
            str(path),
            input_names=["token_ids"],
            output_names=["features"],
            dynamic_axes={"token_ids": {0: "batch", 1: "length"}, "features": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return path


@pytest.fixture(scope="module")
def session(graph):
    return onnxruntime.InferenceSession(graph)


def padded(rows):
    batch = np.zeros((len(rows), max([1, *map(len, rows)])), dtype=np.int64)
    for row, ids in enumerate(rows):
        batch[row, : len(ids)] = ids
    return batch


def column(surface, name, text, encoder):
    """Return the count and the share of one column in a text."""
    features = surface.features([encoder.tokenizer.token_ids(text)])[0]
    place = surface.names.index(name)
    return np.expm1(features[place]), features[place + len(surface.names)]


def in_torch(surface, batch):
    return surface.module()(torch.from_numpy(batch)).numpy()


def in_onnx(session, batch):
    return session.run(None, {"token_ids": batch})[0]


def test_numpy_torch_and_onnx_runtime_agree_on_padded_batches(fitted, session, token_ids):
    expected, batch = fitted.features(token_ids), padded(token_ids)
    assert expected.dtype == np.float32
    assert expected.shape == (len(token_ids), len(fitted.feature_names))
    np.testing.assert_allclose(in_torch(fitted, batch), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(in_onnx(session, batch), expected, rtol=1e-6, atol=1e-6)


def test_numpy_torch_and_onnx_runtime_agree_on_single_rows(fitted, session, token_ids):
    for ids in token_ids[::20] + token_ids[-2:]:
        expected, batch = fitted.features([ids]), padded([ids])
        np.testing.assert_allclose(in_torch(fitted, batch), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(in_onnx(session, batch), expected, rtol=1e-6, atol=1e-6)


@given(st.lists(TOKENS, min_size=1, max_size=4))
def test_any_token_ids_get_the_same_features_in_the_graph(fitted, session, rows):
    expected = fitted.features(rows)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(in_onnx(session, padded(rows)), expected, rtol=1e-6, atol=1e-6)


def test_the_graph_uses_stock_operators(graph):
    operators = {(node.domain, node.op_type) for node in onnx.load(graph).graph.node}
    assert {domain for domain, _ in operators} == {""}
    assert {"Gather", "MatMul", "Log", "Div"} <= {name for _, name in operators}


@given(TOKENS, st.randoms(use_true_random=False))
def test_the_order_of_tokens_does_not_matter(fitted, ids, shuffler: random.Random):
    shuffled = shuffler.sample(ids, len(ids))
    assert np.array_equal(fitted.features([ids]), fitted.features([shuffled]))


@given(TOKENS, st.integers(0, 50))
def test_padding_does_not_matter(fitted, ids, zeros):
    assert np.array_equal(fitted.features([ids]), fitted.features([[0] * zeros + ids + [0]]))


@given(TOKENS)
def test_a_doubled_text_keeps_its_shares_and_doubles_its_counts(raw, ids):
    columns = len(raw.names)
    once, twice = raw.features([ids, ids + ids])
    assert np.array_equal(once[columns:], twice[columns:])
    np.testing.assert_allclose(2 * np.expm1(once[:columns]), np.expm1(twice[:columns]), rtol=1e-5)


@given(TOKENS)
def test_counts_are_between_0_and_the_number_of_tokens(raw, ids):
    features = raw.features([ids])[0]
    assert (features >= 0).all()
    shares = dict(zip(raw.names, features[len(raw.names) :], strict=True))
    assert all(share <= 1 for name, share in shares.items() if name.endswith(("words", "script")))


@pytest.mark.parametrize("name", TEXT_WITH)
def test_every_column_counts_what_its_name_says(raw, encoder, name):
    text, expected = TEXT_WITH[name]
    count, share = column(raw, name, text, encoder)
    tokens, _ = column(raw, "tokens", text, encoder)
    assert count == pytest.approx(expected, abs=0.005)
    assert share == pytest.approx(count / tokens, rel=1e-5)


def test_every_column_has_a_text_in_which_it_counts_something(raw):
    assert list(raw.names) == list(TEXT_WITH)


def test_padding_special_tokens_and_an_empty_text_count_for_nothing(raw, encoder):
    empty = encoder.tokenizer.token_ids("")
    assert not raw.table[[0, *empty]].any()
    assert not raw.features([[], empty, [0, 0]]).any()
    assert raw.features([]).shape == (0, len(raw.feature_names))


def test_a_fitted_table_has_mean_0_and_a_mean_squared_norm_of_1(fitted, token_ids):
    features = fitted.features(token_ids)
    ordinary = (np.abs(features) < fitted.limit).all(axis=0) & (np.ptp(features, axis=0) > 0)
    assert ordinary.mean() > 0.5
    np.testing.assert_allclose(features[:, ordinary].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(features[:, ordinary].var(axis=0), 1 / features.shape[1], rtol=1e-3)


def test_constant_columns_are_not_scaled_and_rare_ones_are_limited(raw, encoder):
    plain = [encoder.tokenizer.token_ids("red and blue")] * 1000
    constant = raw.fitted_to(plain)
    assert (constant.scale == 1).all()
    assert not constant.features(plain).any()
    code = encoder.tokenizer.token_ids("x = {1: [2]} " * 9)
    assert raw.fitted_to([*plain, code]).features([code]).max() == pytest.approx(
        10 / len(raw.feature_names) ** 0.5
    )


def test_a_table_can_be_made_again_from_its_arrays(fitted, token_ids, tmp_path):
    np.savez(tmp_path / "surface.npz", allow_pickle=False, **vars(fitted))
    with np.load(tmp_path / "surface.npz", allow_pickle=False) as arrays:
        again = SurfaceTable.from_arrays(arrays)
    assert again.names == fitted.names
    assert np.array_equal(again.features(token_ids), fitted.features(token_ids))


def test_a_word_level_tokenizer_has_a_table():
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "Why": 2, "+": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[PAD]"])
    surface = surface_table(tokenizer.to_str())
    counted = {name: surface.table[:, place].tolist() for place, name in enumerate(surface.names)}
    assert counted["open_questions"] == [0, 0, 1, 0]
    assert counted["maths_marks"] == [0, 0, 0, 1]
    assert counted["unknown"] == [0, 1, 0, 0]


def byte_level(vocabulary):
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>"])
    return tokenizer.to_str()


def test_a_byte_level_tokenizer_is_read_through_its_byte_alphabet():
    surface = surface_table(byte_level({"<pad>": 0, "Ġwhy": 1, "why": 2, "Why": 3, "Ð´": 4}))
    counted = {name: surface.table[:, place].tolist() for place, name in enumerate(surface.names)}
    assert counted["open_questions"] == [0, 1, 0, 1, 0]
    assert counted["cyrillic_script"] == [0, 0, 0, 0, 1]
    assert counted["characters"] == [0, 3, 3, 3, 1]


def test_a_tokenizer_of_another_kind_is_refused():
    with pytest.raises(TrainingError, match=r"model 'Unigram' .*use one of WordPiece"):
        surface_table(Tokenizer(models.Unigram([("<unk>", 0.0)], 0)).to_str())
    plain = json.loads(byte_level({"<pad>": 0})) | {"decoder": None}
    with pytest.raises(TrainingError, match="model 'BPE' and decoder None"):
        surface_table(json.dumps(plain))


def test_a_tokenizer_that_gives_the_id_of_padding_to_text_is_refused():
    with pytest.raises(TrainingError, match="id 0 to a token of text"):
        surface_table(byte_level({"!": 0, "<pad>": 1}))
