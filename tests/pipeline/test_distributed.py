"""The results of `prepare` and `score` are the same, row by row, with both engines."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from querytier.data.ingest.engines import engine
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import Splitting, prepare
from querytier.data.ingest.sources import LogSource
from querytier.errors import LogError

pytest.importorskip("daft", reason="daft is not installed; make distributed-test has it")

SPLITTING = Splitting({"calibration": 0.15, "certification": 0.15, "test": 0.2}, 3, 0.8, 10_000)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Return three files of one log, with bad lines, duplicate ids and rows without a label."""
    folder = tmp_path_factory.mktemp("logs")
    for part in range(3):
        rows = [
            {
                "query": f"question {part} {n}",
                "id": f"{part}-{n}",
                "tier": "cheap",
                "outcome": n % 2,
            }
            for n in range(400)
        ]
        rows[7]["id"] = "the same in every file"
        rows[8]["tier"] = "frontier"
        rows[9]["query"] = "mail ann@example.org"
        lines = [*map(json.dumps, rows), "{", '{"query": ""}']
        (folder / f"part-{part}.jsonl").write_text("\n".join(lines))
    return [LogSource(path, id_prefix=f"{path}:") for path in sorted(folder.iterdir())]


def rows_of(path):
    """Return rows as text, in which one NaN is like another."""
    return list(map(json.dumps, pq.read_table(path).to_pylist()))


def test_prepare_writes_the_same_files_through_daft(logs, tmp_path):
    reading = Reading(redaction="on")
    summaries = []
    for name in ("local", "daft"):
        out = tmp_path / name
        summaries.append(prepare(logs, out, reading, SPLITTING, engine(name)))
    local, through_daft = summaries
    assert through_daft == local
    assert local.redacted == {"EMAIL": 3}
    assert local.quarantined == {"not JSON": 3, "query empty": 3, "id used before": 2}
    for name in ("data/examples.parquet", "data/unlabelled.parquet"):
        assert rows_of(tmp_path / "local" / name) == rows_of(tmp_path / "daft" / name)
    quarantines = [(tmp_path / name / "quarantine.jsonl").read_text() for name in ("local", "daft")]
    assert quarantines[0] == quarantines[1]


def test_an_error_in_a_log_reaches_the_caller_unchanged(tmp_path):
    source = LogSource(tmp_path / "cut.jsonl.gz", paths={"query": "q", "needs_frontier": "y"})
    source.path.write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(LogError, match="damaged or truncated gzip"):
        prepare([source], tmp_path / "out", Reading(), SPLITTING, engine("daft"))


def test_score_decides_the_same_through_daft(logs, tmp_path):
    """The artifact comes from a pipeline that this environment cannot run."""
    artifact = Path(__file__).parents[2] / "artifacts" / "model"
    if not artifact.is_dir():
        pytest.skip("no artifacts/model; run `make demo` first")
    from querytier.pipeline.scoring import score_logs

    shutil.copytree(artifact, tmp_path / "model")
    tables = []
    for name in ("local", "daft"):
        out = tmp_path / f"{name}.csv"
        score_logs(logs, tmp_path / "model", out, max_bad_share=0.2, engine=engine(name))
        with out.open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    assert tables[0] == tables[1]
    assert len(tables[0]) == 1200
