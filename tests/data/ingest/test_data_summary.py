"""The summary of prepared data: the same from a stream and from memory, and readable later."""

import json

import pytest

from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import Splitting, prepare, read_prepared
from querytier.data.ingest.sources import LogSource

SHARES = {"calibration": 0.15, "certification": 0.15, "test": 0.2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a prepared log."""
    folder = tmp_path_factory.mktemp("prepared")
    rows = [
        {
            "query": f"which knot holds {number} ropes?",
            "cheap_score": number % 2,
            "frontier_score": 1,
            "tier": ["cheap", "frontier"][number % 3 > 0],
            "outcome": 1,
        }
        for number in range(60)
    ]
    log = folder / "log.jsonl"
    log.write_text("\n".join(map(json.dumps, rows)))
    prepare([LogSource(log)], folder, Reading(), Splitting(SHARES))
    return folder


def test_examples_in_memory_have_the_summary_of_their_log(run):
    examples, summary = read_prepared(run)
    assert (summary.usable, summary.groups, summary.one_sided.outcomes) == (60, 60, 60)
    assert DataSummary.of(examples, summary) == summary


def test_a_summary_of_version_0_1_0_is_read(run, tmp_path):
    """That version called the splits roles."""
    summary = DataSummary.read(run / "data" / "summary.json")
    content = json.loads((run / "data" / "summary.json").read_text())
    content["roles"] = content.pop("splits")
    (tmp_path / "summary.json").write_text(json.dumps(content))
    assert DataSummary.read(tmp_path / "summary.json") == summary
