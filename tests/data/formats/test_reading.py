"""Every format is read, every bad line becomes a quarantine line, nothing is lost."""

import csv
import gzip
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from querytier.data.column_map import ColumnMap, parse_paths
from querytier.data.examples import Examples
from querytier.data.formats.reading import read_records
from querytier.data.ingest.labelled_log import LabelledLog, Reading
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.errors import LogError, UsageError

ROWS = [
    {"q": "What is a quorum?", "cheap": 1.0, "frontier": 1.0},
    {"q": 'Größer, ünd\n"quoted", 日本', "cheap": 0.0, "frontier": 1.0},
]


def read_examples(path, paths=None, max_bad_share=1.0):
    """Read a whole log; return its examples, and the log with its account."""
    source = LogSource(path, paths=paths or {})
    log = LabelledLog([source], Reading(max_bad_share=max_bad_share), path.parent / "bad.jsonl")
    batches = [batch.examples for batch in log]
    return Examples.concatenated(batches), log


MAP = {"query": "q", "cheap_score": "cheap", "frontier_score": "frontier"}


def write_jsonl(path):
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def write_jsonl_gz(path):
    with gzip.open(path, "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in ROWS))


def write_csv(path):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(path):
    pq.write_table(pa.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("log.jsonl", write_jsonl),
        ("log.jsonl.gz", write_jsonl_gz),
        ("misnamed.jsonl", write_jsonl_gz),
        ("log.csv", write_csv),
        ("log.parquet", write_parquet),
    ],
)
def test_every_format_gives_the_same_examples(tmp_path, name, write):
    write(tmp_path / name)
    examples, log = read_examples(tmp_path / name, MAP, 0.0)
    assert examples.query.tolist() == [row["q"] for row in ROWS]
    assert examples.needs_frontier.tolist() == [0.0, 1.0]
    assert not log.account.quarantined
    assert not (tmp_path / "bad.jsonl").exists()
    assert log.rules == LabelRules(("cheap_fails_frontier_succeeds",), 0.5)


BAD_LINES = {
    "{": "not JSON",
    "[1]": "not a JSON object",
    "[" * 100_000: "not JSON",
    '{"cheap": 1, "frontier": 1}': "query missing",
    '{"q": 7, "cheap": 1, "frontier": 1}': "query is not text",
    '{"q": " \\u200b ", "cheap": 1, "frontier": 1}': "query empty",
    '{"q": "a", "cheap": NaN, "frontier": 1}': "cheap_score is not a finite number",
    '{"q": "a", "cheap": 1, "frontier": Infinity}': "frontier_score is not a finite number",
    '{"q": "a", "cheap": "good", "frontier": 1}': "cheap_score is not a finite number",
    '{"q": "a", "cheap": [1], "frontier": 1}': "cheap_score is not a finite number",
    '{"q": "a", "cheap": 1' + "0" * 400 + ', "frontier": 1}': "cheap_score is not a finite number",
}


def test_each_bad_line_is_quarantined_with_its_number_and_reason(tmp_path):
    log = tmp_path / "log.jsonl"
    good = json.dumps(ROWS[0]).encode()
    bad = [line.encode() for line in BAD_LINES] + [b'{"q": "\xff"}']
    log.write_bytes(b"\xef\xbb\xbf" + b"\n".join([good, b"", *bad]) + b"\n")
    examples, read = read_examples(log, MAP)
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert len(examples) == 1
    assert {line["file"] for line in lines} == {"log.jsonl"}
    assert [line["line"] for line in lines] == list(range(3, 3 + len(bad)))
    reasons = [line["reason"].split(":")[0] for line in lines]
    assert reasons == [*BAD_LINES.values(), "not UTF-8"]
    assert read.account.quarantined == Counter(reasons)
    assert [line["raw"] for line in lines[:-1]] == list(BAD_LINES)
    assert lines[-1]["raw"] == '{"q": "\\xff"}'


def test_numbers_and_truth_values_may_come_as_text(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("q,cheap,frontier\nfirst,False,True\nsecond, 1e0 ,1\nthird,,1\nfourth,1\n")
    examples, read = read_examples(log, MAP)
    np.testing.assert_array_equal(examples.needs_frontier, [1.0, 0.0, np.nan])
    assert examples.unlabelled.tolist() == ["", "", "cheap_score missing"]
    assert read.account.quarantined == {"2 fields, but the header has 3": 1}


def test_a_repeated_id_is_quarantined_at_any_distance(tmp_path, monkeypatch):
    monkeypatch.setattr("querytier.data.ingest.log_batches._ROWS_AT_ONCE", 5)
    log = tmp_path / "log.jsonl"
    ids = [*range(23), 0, 22, 4, 23, 23]
    log.write_text("".join(f'{{"query": "a", "needs_frontier": 0, "id": {n}}}\n' for n in ids))
    examples, read = read_examples(log)
    assert examples.id.tolist() == [str(n) for n in range(24)]
    assert read.account.quarantined == {"id used before": 4}
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [line["line"] for line in lines] == [24, 25, 26, 28]
    assert lines[1]["raw"] == '{"query": "a", "needs_frontier": 0, "id": 22}'
    assert read.rules.rules == ("explicit",)


def test_several_files_are_one_log_whose_lines_keep_their_names(tmp_path):
    paths = [tmp_path / "monday.jsonl", tmp_path / "tuesday.csv"]
    paths[0].write_text('{"query": "a", "needs_frontier": 0, "id": "x"}\n{\n')
    paths[1].write_text("query,needs_frontier,id\nb,1,\na,1,x\n")
    sources = [LogSource(path, id_prefix=f"{path.name}:") for path in paths]
    log = LabelledLog(sources, Reading(max_bad_share=1.0), tmp_path / "bad.jsonl")
    examples = Examples.concatenated([batch.examples for batch in log])
    assert log.name == "monday.jsonl, tuesday.csv"
    assert examples.id.tolist() == ["x", "tuesday.csv:line-2"]
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    places = [(line["file"], line["line"], line["reason"]) for line in lines]
    assert places == [("monday.jsonl", 2, "not JSON"), ("tuesday.csv", 3, "id used before: x")]


def test_lone_surrogates_in_a_log_are_dropped_by_the_text_view(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"query": "a\\ud800b", "needs_frontier": 0.25}\n')
    examples, _ = read_examples(log)
    assert examples.query[0].encode("utf-8") == "a\ufffdb".encode()


def test_a_gzip_cut_short_is_an_error_that_says_so(tmp_path):
    log = tmp_path / "log.jsonl.gz"
    with gzip.open(log, "wt") as file:
        file.write("".join(f'{{"q": "query {n}"}}\n' for n in range(10_000)))
    log.write_bytes(log.read_bytes()[:-2000])
    with pytest.raises(LogError, match=r"truncated gzip file.*copy it again"):
        list(read_records(log))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("log.xlsx", b"", UsageError, "does not belong to a known log format"),
        ("log.parquet", b"not parquet", LogError, "not a readable Parquet file"),
        ("log.jsonl", b"", LogError, "none of the 0 records is usable .the file is empty"),
        ("log.jsonl", b"{\n[\n", LogError, "none of the 2 records is usable .not JSON: 2"),
        ("log.jsonl", b'{"prompt": "a"}\n', UsageError, "column query=q, .*its columns: prompt"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_that_says_why(
    tmp_path, name, content, error, message
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        read_examples(tmp_path / name, MAP)


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_records(tmp_path / "absent.jsonl")


def test_too_large_a_share_of_bad_records_stops_with_the_counts(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"query": "a", "needs_frontier": 1}\n' * 3 + "{\n" * 2)
    with pytest.raises(LogError, match=r"2 of 5 records .* \(not JSON: 2\).*max_bad_share 0.3"):
        read_examples(log, max_bad_share=0.3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query", "write field=column"),
        ("query=a,query=b", "names query twice"),
        ("prompt=a", "'prompt' is not a field"),
        ("id=a", "has no query"),
        ("", "has no query"),
    ],
)
def test_a_wrong_column_map_is_a_usage_error(text, message):
    with pytest.raises(UsageError, match=message):
        ColumnMap(parse_paths(text))


def test_a_map_without_label_or_scores_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no label can be made from the mapped columns"):
        read_examples(tmp_path / "x.jsonl", {"query": "q", "cheap_score": "c"})


def test_a_column_whose_own_name_has_dots_comes_before_the_nested_one():
    columns = ColumnMap({"query": "a.b"})
    assert columns.values({"a.b": "flat", "a": {"b": "nested"}}) == {"query": "flat"}
