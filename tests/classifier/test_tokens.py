"""Token ids: the same from either tokenizer, and bounded for any text."""

import json
import sys

import pytest
import tokie
from hypothesis import given
from hypothesis import strategies as st

from querytier.classifier.golden import golden_queries
from querytier.classifier.model.words import word_tokenizer
from querytier.classifier.tokens import ViewTokenizer
from querytier.data.text_view import text_view

PIECES = [
    "pay",
    "##ing",
    "##",
    "[",
    "]",
    "[SEP]",
    "[PAD]",
    "don't",
    " ",
    "a",
    "12.5",
    "http://a.b/c?d",
]
ASCII = st.text(st.characters(max_codepoint=0x7F)) | st.lists(st.sampled_from(PIECES)).map("".join)


@pytest.fixture(scope="module")
def tokenizers(encoder):
    """Return the tokenizer as it is, and as it is without the faster one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tokie", None)
        original = ViewTokenizer(encoder.tokenizer_json, 10_000)
    fast = ViewTokenizer(encoder.tokenizer_json, 10_000)
    return fast, original


@given(ASCII)
def test_the_faster_tokenizer_gives_the_same_ids(tokenizers, text):
    fast, original = tokenizers
    view = text_view(text)
    assert fast.token_ids(view) == original.token_ids(view)


def test_the_faster_tokenizer_is_installed(tokenizers):
    fast, original = tokenizers
    assert any(isinstance(part, tokie.Tokenizer) for part in vars(fast).values())
    assert not any(isinstance(part, tokie.Tokenizer) for part in vars(original).values())


def test_golden_queries_have_the_same_ids(tokenizers):
    fast, original = tokenizers
    for view in map(text_view, golden_queries()):
        assert fast.token_ids(view) == original.token_ids(view)


@pytest.mark.parametrize("normalizer", [None, {"type": "Lowercase"}, {"type": "NFD"}])
def test_the_faster_tokenizer_agrees_with_other_normalisers(encoder, monkeypatch, normalizer):
    settings = json.dumps({**json.loads(encoder.tokenizer_json), "normalizer": normalizer})
    fast = ViewTokenizer(settings, 100)
    monkeypatch.setitem(sys.modules, "tokie", None)
    original = ViewTokenizer(settings, 100)
    view = "Plain WORDS, and don't pay 12.5 [ SEP]"
    assert fast.token_ids(view) == original.token_ids(view)


def test_word_level_vocabularies_use_the_original_tokenizer():
    tokenizer = ViewTokenizer(word_tokenizer(["plain"]), 100)
    assert tokenizer.token_ids("plain words") == [2, 1]
