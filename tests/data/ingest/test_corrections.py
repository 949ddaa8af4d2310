"""Corrections survive spreadsheets unchanged, or are refused."""

import csv
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.ingest.corrections import (
    CORRECTION,
    Corrector,
    read_corrections,
    review_id,
    review_query,
    review_text,
)
from querytier.data.labelling import LabelRules
from querytier.errors import UsageError

FORMULA = tuple("=+-@")
TEXTS = st.text(st.one_of(st.sampled_from("=+-@;,\"' \t\n\r1A"), st.characters(codec="utf-8")))


@pytest.fixture(scope="module")
def examples():
    rows = [("007", "What is a quorum?"), ("=x", "=SUM(A1) fails, why?"), ("c", "Say 'no'.")]
    rule = LabelRules(("explicit",))
    values = [{"id": name, "query": query, "needs_frontier": 0.0} for name, query in rows]
    return Examples.of([example_from(value, rule, "") for value in values])


def table(path, *lines):
    path.write_text("\n".join(["id,query,corrected_label,comment", *lines, ""]))
    return path


@given(st.lists(TEXTS, min_size=1, max_size=5, unique=True), st.sampled_from(",;\t"))
def test_every_id_survives_the_round_trip(tmp_path_factory, ids, delimiter):
    path = tmp_path_factory.getbasetemp() / "ids.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([["id", "corrected_label"], *([review_id(name), "1"] for name in ids)])
    assert [row.id for row in read_corrections(path).rows] == ids


@given(TEXTS)
def test_no_cell_starts_a_formula_wherever_a_spreadsheet_cuts_it(text):
    quoted = '"' + review_text(text).replace('"', '""') + '"'
    for cell in [review_text(text), *quoted.split(";")]:
        assert not cell.lstrip(' "').startswith(FORMULA)
    assert not review_id(text).startswith(FORMULA)
    assert len(review_text(text).splitlines()) <= 1


def test_a_long_query_is_shown_by_its_start():
    shown = review_query("=" + "x" * 5000)
    assert shown.startswith("'=xxx")
    assert shown.endswith("...")
    assert len(shown) < 310


def applied(examples, corrections):
    """Return examples with all corrections, and the number of corrections."""
    corrector = Corrector(corrections)
    corrected = corrector.apply(examples)
    corrector.check_all_used()
    return corrected, corrector.corrected


def test_corrected_labels_replace_the_old_ones_and_say_so(tmp_path, examples):
    path = table(
        tmp_path / "review.csv",
        "'007,What is a quorum?,1,agreed with Ada",
        "'c,Say 'no'.,,left as it is",
        "'=x,\"'=SUM(A1) fails, why?\", 0.25 ,",
    )
    corrected, count = applied(examples, read_corrections(path))
    assert count == 2
    assert corrected.needs_frontier.tolist() == [1.0, 0.25, 0.0]
    assert corrected.label_source.tolist() == [CORRECTION, CORRECTION, "explicit"]
    assert examples.needs_frontier.tolist() == [0.0, 0.0, 0.0]
    for field in dataclasses.fields(Examples):
        if field.name not in {"needs_frontier", "label_source"}:
            before, after = getattr(examples, field.name), getattr(corrected, field.name)
            np.testing.assert_array_equal(before, after)


def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path, examples):
    path = tmp_path / "review.csv"
    path.write_bytes(
        b"\xef\xbb\xbfid;query;corrected_label;comment\r\n"
        b"007;What is a quorum?;0,5;\r\n=x;SUM(A1) fails, why?;1;\r\n"
    )
    corrected, _ = applied(examples, read_corrections(path))
    assert corrected.needs_frontier.tolist() == [0.5, 1.0, 0.0]


def test_a_table_by_hand_needs_only_two_columns(tmp_path, examples):
    path = tmp_path / "by_hand.csv"
    path.write_text("corrected_label,id\n1,c\n")
    assert applied(examples, read_corrections(path))[0].needs_frontier[2] == 1.0


def test_an_empty_table_corrects_nothing(tmp_path, examples):
    corrected, count = applied(examples, read_corrections(table(tmp_path / "r.csv")))
    assert count == 0
    assert corrected.fingerprint() == examples.fingerprint()


@pytest.mark.parametrize("value", ["2", "-0.1", "nan", "inf", "yes", "1;0"])
def test_a_value_that_is_not_a_label_is_named_with_its_line(tmp_path, value):
    path = table(tmp_path / "review.csv", "'007,,,", f"'c,,{value},")
    with pytest.raises(UsageError, match=rf"line 3: corrected_label is '{value}'; write a number"):
        read_corrections(path)


def test_an_id_corrected_twice_is_named_with_both_lines(tmp_path):
    path = table(tmp_path / "review.csv", "'c,,1,", "'007,,1,", "'c,,0,")
    with pytest.raises(UsageError, match=r"line 4: the id 'c' is already corrected on line 2"):
        read_corrections(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("'d,,1,", r"line 2: no example has the id 'd'; use the table of an audit of this log"),
        (",,1,", r"line 2: no example has the id ''"),
        ("'c,What is a quorum?,1,", r"line 2: the id 'c' belongs to another query, .Say 'no'"),
    ],
)
def test_a_correction_of_another_log_is_not_applied(tmp_path, examples, line, message):
    corrections = read_corrections(table(tmp_path / "review.csv", line))
    with pytest.raises(UsageError, match=message):
        applied(examples, corrections)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no columns id and corrected_label"),
        (b"id,label\nc,1\n", "no columns id and corrected_label .*'id,label'"),
        (b"id,corrected_label\nc\xe4,1\n", "not UTF-8; save the table as CSV in UTF-8"),
    ],
)
def test_a_file_that_is_not_a_table_is_a_usage_error(tmp_path, content, message):
    path = tmp_path / "review.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_corrections(path)


def test_an_oversized_cell_is_a_usage_error(tmp_path):
    path = table(tmp_path / "review.csv", f"'c,{'x' * 2000},1,")
    limit = csv.field_size_limit(1000)
    try:
        with pytest.raises(UsageError, match="cannot be read as CSV after line 1"):
            read_corrections(path)
    finally:
        csv.field_size_limit(limit)


def test_a_missing_table_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_corrections(tmp_path / "absent.csv")
