"""Laws of the text view."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.text_view import (
    CUT_MARK,
    MAX_CHARACTERS,
    is_truncated,
    last_user_text,
    text_view,
    view_fingerprint,
)

ANY_TEXT = st.text(st.characters(exclude_categories=[]))
PIECES = [
    *["<system>", "</system>", "<user_query>", "</user_query>", "<|im_start|>user\n", "<|im_end|>"],
    *["[SEP]", "</s>", "a", " ", "<", "[", "|>", "SEP]", "\x00", "\u200b", "\ud800"],
]
MARKUP = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
PLAIN_WORDS = st.text(st.sampled_from("abc xyz?.,"), min_size=1).filter(str.strip)
SPECIAL = re.compile(r"\[(CLS|SEP|MASK|PAD|UNK)\]|<\|[^|<>]{1,40}\|>|</?(s|pad|unk|mask)>")


@given(ANY_TEXT | MARKUP)
def test_the_view_of_any_text_is_bounded_and_printable(text):
    view = text_view(text)
    assert len(view) <= 1.5 * MAX_CHARACTERS
    assert view == view.strip()
    assert "  " not in view
    assert view.encode("utf-8").decode("utf-8") == view
    assert not SPECIAL.search(view)
    assert not re.search("[\x00-\x1f\x7f\u200b\u202e\ufeff]", view)


@given(PLAIN_WORDS, PLAIN_WORDS)
def test_harness_text_around_a_query_does_not_change_its_view(query, rules):
    expected = text_view(query)
    wrapped = [
        f"<system-reminder>{rules}</system-reminder>\n{query}",
        f"{query}\n<environment_context>{rules}</environment_context>",
        f"{rules} <user_query>{query}</user_query> {rules}",
        f"<|im_start|>system\n{rules}<|im_end|>\n<|im_start|>user\n{query}<|im_end|>\n",
    ]
    assert [text_view(text) for text in wrapped] == [expected] * 4


@given(ANY_TEXT)
def test_messages_and_the_text_of_their_last_user_turn_have_one_view(query):
    messages = [
        {"role": "system", "content": "rules"},
        {"role": "user", "content": "an earlier question"},
        {"role": "assistant", "content": "an answer"},
        {"role": "user", "content": [{"type": "text", "text": query}, {"type": "image_url"}]},
        {"role": "assistant", "content": "so far"},
    ]
    assert text_view(messages) == text_view(query)


def test_head_and_tail_of_a_long_query_are_kept():
    query = "head " + "x" * 100_000 + " tail"
    view = text_view(query)
    assert view.startswith("head x")
    assert view.endswith("x tail")
    assert len(view) == MAX_CHARACTERS + len(CUT_MARK)
    assert is_truncated(query)


def test_a_block_that_is_cut_in_its_middle_is_still_removed():
    query = "<system>" + "rule " * 20_000 + "</system>Is it raining?"
    assert text_view(query) == "Is it raining?"


def test_a_query_that_is_all_harness_is_empty():
    assert text_view("<system>only rules</system>") == ""
    assert text_view([{"role": "system", "content": "only rules"}]) == ""


@pytest.mark.parametrize("query", [None, 7, b"bytes", {"role": "user"}, ["text"]])
def test_a_value_that_is_neither_text_nor_messages_is_a_type_error(query):
    with pytest.raises(TypeError):
        text_view(query)


def test_content_that_is_not_text_counts_as_empty():
    assert last_user_text([{"role": "user", "content": None}]) == ""


def test_the_view_is_the_one_that_artifacts_were_trained_on():
    """A change of this hash makes every artifact refuse to load: raise VIEW_VERSION with it."""
    assert view_fingerprint() == "e4780d448471e6699c571e3b85ea191e81e0b77ad51b9292f4652434067f311c"


def test_white_space_is_the_set_in_the_documentation():
    """The view uses Python's own set, so this test fails if a version of Python changes it."""
    listed = [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029]
    listed += [0x202F, 0x205F, 0x3000]
    folded = [point for point in range(0x110000) if text_view(f"a{chr(point)}b") == "a b"]
    assert folded == listed
