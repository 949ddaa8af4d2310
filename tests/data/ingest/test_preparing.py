"""Preparing logs: the splits, the files, and redaction before anything is written."""

import json

import pytest

from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import Splitting, prepare
from querytier.data.ingest.sources import LogSource
from querytier.data.splits import (
    SPLITS,
)
from querytier.errors import LogError

LONG = " ".join(f"word{n}" for n in range(40))
SHARES = {"calibration": 0.15, "certification": 0.15, "test": 0.2}


def rows_of(count):
    return [
        {"query": f"query {n}", "needs_frontier": n % 2, "id": n, "group": f"g{n}"}
        for n in range(count)
    ]


def prepared(tmp_path, rows, **settings):
    lines = map(json.dumps, rows)
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    settings = {
        "shares": SHARES,
        "seed": 3,
        "near_duplicate_threshold": 0.8,
        "near_duplicate_rows": 10_000,
        **settings,
    }
    split = {
        name: settings.pop(name) for name in Splitting.__dataclass_fields__ if name in settings
    }
    reading = Reading(**{"max_bad_share": 0.0, **settings})
    source = LogSource(tmp_path / "log.jsonl")
    summary = prepare([source], tmp_path, reading, Splitting(**split))
    return Examples.read_parquet(tmp_path / "data" / "examples.parquet"), summary


def test_below_a_thousand_rows_there_are_two_splits(tmp_path):
    assert set(prepared(tmp_path, rows_of(999))[0].split) == {"train", "test"}
    assert set(prepared(tmp_path, rows_of(1000))[0].split) == set(SPLITS)


def test_a_log_that_grows_keeps_its_test_rows(tmp_path):
    few, many = prepared(tmp_path, rows_of(400))[0], prepared(tmp_path, rows_of(1400))[0]
    assert [split == "test" for split in few.split] == [
        split == "test" for split in many.split[:400]
    ]


def test_rows_written_in_batches_equal_the_rows_read(tmp_path, monkeypatch):
    whole, summary = prepared(tmp_path, rows_of(300))
    monkeypatch.setattr("querytier.data.ingest.preparing._ROWS_AT_ONCE", 7)
    monkeypatch.setattr("querytier.data.ingest.log_batches._ROWS_AT_ONCE", 11)
    pieces, again = prepared(tmp_path, rows_of(300))
    assert again == summary
    assert pieces.fingerprint() == whole.fingerprint() == summary.fingerprint
    assert pieces.query.tolist() == [f"query {n}" for n in range(300)]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "examples.parquet",
        "summary.json",
        "unlabelled.parquet",
    ]


def test_near_duplicates_share_group_and_split(tmp_path):
    rows = [{**row, "query": f"{row['query']} alone"} for row in rows_of(300)]
    for n in range(0, 300, 3):
        rows[n]["query"] = f"{n} {LONG} {n}"
        rows[n + 1]["query"] = f"{n} {LONG} {n}!"
    examples, summary = prepared(tmp_path, rows)
    assert summary.near_duplicates >= 100
    for n in range(0, 300, 3):
        assert examples.group[n] == examples.group[n + 1]
        assert examples.split[n] == examples.split[n + 1]
    apart, summary = prepared(tmp_path, rows, near_duplicate_rows=10)
    assert summary.near_duplicates is None
    assert any(apart.split[n] != apart.split[n + 1] for n in range(0, 300, 3))


def test_temporal_puts_the_newest_groups_into_test(tmp_path):
    rows = [
        {**row, "time": f"2031-01-01 00:{n // 60:02}:{n % 60:02}"}
        for n, row in enumerate(rows_of(300))
    ]
    examples, _ = prepared(tmp_path, rows, temporal=True)
    assert (examples.split == "test").tolist() == [n >= 240 for n in range(300)]
    del rows[7]["time"]
    with pytest.raises(LogError, match="1 of the 300 examples have no time"):
        prepared(tmp_path, rows, temporal=True)


def test_personal_data_is_replaced_before_anything_is_written(tmp_path):
    rows = [
        {**row, "query": f"{row['query']} for ann{n}@example.org"}
        for n, row in enumerate(rows_of(300))
    ]
    rows.append({"query": "mail bob@example.org", "needs_frontier": "?"})
    examples, summary = prepared(tmp_path, rows, redaction="on", max_bad_share=0.1)
    assert summary.redacted == {"EMAIL": 300}
    assert all(query.endswith("for [EMAIL]") for query in examples.query)
    assert "example.org" not in (tmp_path / "quarantine.jsonl").read_text()
    with pytest.raises(LogError, match=r"contains personal data \(EMAIL: 300\)"):
        prepared(tmp_path, rows, redaction="fail", max_bad_share=0.1)
