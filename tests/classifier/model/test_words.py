"""The tokenisation of static encoders: the same in Hugging Face tokenizers and ONNX operators."""

from itertools import groupby

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from querytier.classifier.model.encoder import load_encoder
from querytier.classifier.model.onnx_nodes import Nodes
from querytier.classifier.model.words import (
    UNKNOWN,
    add_words,
    cuts_words,
    word_tokenizer,
    words_of,
)
from querytier.classifier.tokens import ViewTokenizer
from querytier.data.text_view import text_view

ANY_TEXT = st.text(st.characters(exclude_categories=[]))
VOCABULARY = ["a", "the", "pay", "é", "émile", "会", "ひ", "7", "?", "<", "\U0001f680", "한국어"]
TOKENIZER = word_tokenizer(VOCABULARY)
TEXT_OF_WORDS = st.lists(st.sampled_from([*VOCABULARY, " ", "Pay", "X", "-"])).map("".join)


@pytest.fixture(scope="module")
def session():
    """Return a graph from text to token ids, and nothing else."""
    nodes = Nodes("words")
    token_ids = add_words(nodes, "text", TOKENIZER)
    text = helper.make_tensor_value_info("text", TensorProto.STRING, ["batch"])
    ids = helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["batch", "length"])
    model = helper.make_model(
        helper.make_graph([], "words", [text], [ids]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    nodes.put_before(model, token_ids, "token_ids")
    return ort.InferenceSession(model.SerializeToString())


def ids_of(session, *views):
    return session.run(None, {"text": np.array(views, dtype=object)})[0].tolist()


@given(ANY_TEXT | TEXT_OF_WORDS)
def test_the_graph_cuts_any_view_as_the_tokenizer_does(session, text):
    view = text_view(text)
    if view:
        assert ids_of(session, view) == [ViewTokenizer(TOKENIZER, 10_000).token_ids(view)]


def test_shorter_rows_of_a_batch_are_padded_with_zeros(session):
    assert ids_of(session, "the", "pay the 7") == [[3, 0, 0], [4, 3, 9]]


@given(st.text(st.characters(max_codepoint=0x1C7F, exclude_categories=["Cn", "Cs"])))
def test_words_are_runs_of_letters_and_single_other_characters(text):
    """A character from a later Unicode version may be a letter in only one of the two tables."""
    view = text_view(text)
    lowered = "".join(char.lower() if char.isascii() else char for char in view)
    words = []
    for are_letters, run in groupby(lowered, str.isalpha):
        chars = list(run)
        words += ["".join(chars)] if are_letters else [char for char in chars if char != " "]
    assert words_of(view) == words
    assert bool(words) == bool(view)


def test_ideographs_and_kana_are_words_by_themselves():
    assert words_of("会议 ひらab한국어\U00020000") == [
        "会",
        "议",
        "ひ",
        "ら",
        "ab한국어",
        "\U00020000",
    ]


def test_only_ascii_letters_are_lowered():
    assert words_of("École ÀB İ K ΣΑΣ") == ["École", "Àb", "İ", "k", "ΣΑΣ"]


def test_no_text_contains_padding():
    ids = ViewTokenizer(word_tokenizer(["<", "pad"]), 20).token_ids("<pad> <unk>")
    assert ids == [2, 3, UNKNOWN, 2, UNKNOWN, UNKNOWN]


def test_only_word_tokenizers_can_be_part_of_a_graph():
    assert cuts_words(TOKENIZER)
    assert not cuts_words(load_encoder().tokenizer_json)
    assert not cuts_words(TOKENIZER.replace('"WordLevel"', '"WordPiece"'))
