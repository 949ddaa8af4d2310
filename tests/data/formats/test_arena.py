"""Votes between two of many models become votes between the cheap and the frontier model."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.column_map import FIELDS
from querytier.data.formats.arena import are_arena_fields, arena_fields
from querytier.data.formats.canonical import UnusableRecordError, is_passed_over
from querytier.data.formats.reading import Record
from querytier.data.formats.recognise import Format, canonical_records, recognise
from querytier.data.model_pair import ModelPair
from querytier.errors import UsageError

PAIR = ModelPair("small-1", "large-2")
SIDES = {"large-2": "frontier", "small-1": "cheap"}
OUTCOMES = {"tie": "tie", "tie (bothbad)": "both_bad", "both_bad": "both_bad"}


def turn(role, content):
    return {"role": role, "content": content}


CONVERSATION = {
    "question_id": "q-1",
    "model_a": "small-1",
    "model_b": "large-2",
    "winner": "model_b",
    "conversation_a": [turn("user", "Name a quorum rule"), turn("assistant", "Half plus one")],
    "conversation_b": [turn("user", "Name a quorum rule"), turn("assistant", "Two thirds")],
    "turn": 1,
    "language": "English",
    "tstamp": 1_700_000_000.0,
}
TABLE = {
    "id": 30192,
    "model_a": "large-2",
    "model_b": "small-1",
    "prompt": '["What is a sloop?", "And a ketch?"]',
    "response_a": '["One mast", "Two"]',
    "response_b": '["A boat", "A boat"]',
    "winner_model_a": 1,
    "winner_model_b": 0,
    "winner_tie": 0,
}
FORMS = [CONVERSATION, TABLE]


def converted(fields, pair=PAIR):
    records = iter([Record(1, fields, None, "raw")])
    return next(canonical_records(records, Format.ARENA, pair))


@pytest.mark.parametrize("fields", FORMS)
def test_both_forms_are_recognised(fields):
    assert recognise(fields) is Format.ARENA


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "Hi", "model_a": "a", "model_b": "b", "winner": "a"},
        {"model_a": "a", "winner": "model_a", "conversation_a": []},
        {"prompt": "Hi", "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
    ],
)
def test_a_log_that_only_resembles_votes_is_plain(fields):
    assert not are_arena_fields(fields)
    assert recognise(fields) is Format.PLAIN


def test_a_conversation_gives_its_fields():
    assert converted(CONVERSATION).fields == {
        "id": "q-1",
        "time": "2023-11-14T22:13:20+00:00",
        "query": "Name a quorum rule",
        "language": "English",
        "winner": "frontier",
    }


def test_a_row_of_the_table_gives_all_turns_of_the_user():
    query = "What is a sloop?\nAnd a ketch?"
    assert converted(TABLE).fields == {"id": "30192", "query": query, "winner": "frontier"}


def test_turns_in_parts_are_read_and_a_session_is_a_conversation():
    part = {"type": "text", "text": "Hello there", "image": None, "mimeType": None}
    picture = {"type": "image", "text": None, "image": "x.png", "mimeType": "image/png"}
    turns = [turn("user", [part, picture]), turn("assistant", [part]), turn("user", [part])]
    fields = CONVERSATION | {"conversation_a": turns, "evaluation_session_id": "s-9"}
    found = converted(fields).fields
    assert (found["query"], found["conversation"]) == ("Hello there\nHello there", "s-9")
    assert converted(fields | {"conversation_a": json.dumps(turns)}).fields == found


@given(
    st.permutations(sorted(SIDES)),
    st.sampled_from(["model_a", "model_b", *OUTCOMES]),
    st.booleans(),
)
def test_swapping_the_sides_changes_nothing(models, outcome, is_dated):
    models = [f"vendor/{model}-2026-01-31" if is_dated else model for model in models]
    swap = {"model_a": "model_b", "model_b": "model_a"}
    one = CONVERSATION | dict(zip(swap, models, strict=True)) | {"winner": outcome}
    other = one | {
        "model_a": one["model_b"],
        "model_b": one["model_a"],
        "winner": swap.get(outcome, outcome),
    }
    winner = arena_fields(one, PAIR)["winner"]
    assert winner == arena_fields(other, PAIR)["winner"]
    assert winner == (OUTCOMES.get(outcome) or PAIR.tier_of(one[outcome]))


@pytest.mark.parametrize(
    ("outcome", "winner"), [((1, 0, 0), "frontier"), ((0, 1, 0), "cheap"), ((0, 0, 1), "tie")]
)
def test_the_columns_of_outcomes_give_the_winner(outcome, winner):
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    for kind in (int, float, bool, str):
        values = map(kind, outcome)
        assert arena_fields(TABLE | dict(zip(names, values, strict=True)), PAIR)["winner"] == winner


@pytest.mark.parametrize("fields", FORMS)
@pytest.mark.parametrize("models", [("small-1", "other-3"), ("other-3", "large-2"), ("a", "b")])
def test_votes_on_other_models_are_passed_over(fields, models):
    record = converted(fields | dict(zip(("model_a", "model_b"), models, strict=True)))
    assert record.fields is None
    assert is_passed_over(record)


def test_two_versions_of_one_model_are_passed_over():
    versions = {"model_a": "large-2-0314", "model_b": "large-2-0613"}
    assert is_passed_over(converted(CONVERSATION | versions))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (CONVERSATION | {"winner": "model_c"}, "no one winner: model_c"),
        (CONVERSATION | {"winner": None}, "no one winner"),
        (CONVERSATION | {"model_a": None}, "model_a missing"),
        (CONVERSATION | {"conversation_a": []}, "query empty"),
        (CONVERSATION | {"conversation_a": [turn("assistant", "Hi")]}, "query empty"),
        (TABLE | {"winner_tie": 1}, "no one winner"),
        (TABLE | {"winner_model_a": 0}, "no one winner"),
        (TABLE | {"prompt": "[null]"}, "query empty"),
        (TABLE | {"prompt": None}, "query empty"),
    ],
)
def test_an_unusable_vote_has_a_problem(fields, problem):
    record = converted(fields)
    assert record.problem == problem
    assert not is_passed_over(record)


@pytest.mark.parametrize("fields", FORMS)
def test_without_a_pair_the_error_names_models_of_the_log(fields):
    with pytest.raises(UsageError, match=r"such as (small-1 and large-2|large-2 and small-1)"):
        arena_fields(fields, None)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["user", "model_a", "small-1", "large-2", "[1", '["x"]', "[" * 2000]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "text"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.sampled_from(FORMS), st.data())
def test_any_vote_is_converted_or_has_a_problem(fields, data):
    strange = data.draw(st.dictionaries(st.sampled_from(sorted(fields)), VALUES, max_size=3))
    try:
        found = arena_fields(fields | strange, PAIR)
    except UnusableRecordError:
        return
    assert set(found) <= {*FIELDS, "conversation"}
    assert found["query"].strip()
    assert found["winner"] in {"frontier", "cheap", "tie", "both_bad"}
