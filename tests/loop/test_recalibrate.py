"""`querytier recalibrate`: another calibrator in the graph, a promise or an honest refusal."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytier.classifier.artifact import GOLDEN
from querytier.classifier.export.recalibrate_artifact import (
    log_odds_before_calibration,
    write_recalibrated,
)
from querytier.classifier.golden import replay_golden
from querytier.classifier.manifest import Certificate
from querytier.classifier.model.calibrator import Calibrator
from querytier.classifier.runtime import Classifier
from querytier.data.examples import Examples
from querytier.eval.staleness import share_of, staleness

ARTIFACTS = Path(__file__).parents[1] / "fixtures" / "artifacts"
OLD = ARTIFACTS / "format-2"
NOT_ASKED = Certificate("refused", "not asked for")
VIEWS = ["Where is my parcel?", "Prove that the bound is tight.", "Translate this letter.", "7"]
SLOPES = st.floats(0.05, 5.0)
THINGS = ["parcel", "invoice", "kettle", "garden", "ferry", "archive", "contract", "sensor"]


def paired_log(path, rows=160, selected=None):
    """Write labels of another pair: what asks for a proof fails on the cheap model."""
    random = np.random.default_rng(3)
    lines = []
    for row in range(rows):
        hard = row % 3 == 0
        thing = THINGS[row % len(THINGS)]
        query = f"Prove that {thing} {row} is optimal" if hard else f"Where is {thing} {row}?"
        cheap = float(random.random() < (0.3 if hard else 0.95))
        line = {"id": f"n{row}", "query": query, "cheap_score": cheap, "frontier_score": 1.0}
        lines.append(line | ({"selected": selected(row)} if selected else {}))
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


@pytest.fixture(scope="module")
def swapped(tmp_path_factory):
    """Return what `querytier recalibrate` leaves of a bare artifact and 160 labels."""
    folder = tmp_path_factory.mktemp("swap")
    log = paired_log(folder / "paired.jsonl", selected=lambda row: "planned" if row < 10 else None)
    command = [sys.executable, "-m", "querytier", "recalibrate", OLD, "--logs", log]
    command += ["--out", folder / "out", "--alpha", "0.1"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1, answer.stderr
    (folder / "stdout.txt").write_text(answer.stdout)
    return folder


@pytest.mark.parametrize("artifact", ["format-1", "format-2"])
@given(rising=SLOPES, falling=SLOPES, offset=st.floats(-3, 3))
@settings(max_examples=4)
def test_the_graph_says_what_the_new_calibrator_says(
    artifact, rising, falling, offset, tmp_path_factory
):
    old, new = ARTIFACTS / artifact, tmp_path_factory.mktemp("new") / "model"
    calibrator = Calibrator(rising, falling, offset)
    write_recalibrated(old, new, calibrator, 0.5, certificate=NOT_ASKED, lineage={})
    log_odds = log_odds_before_calibration(old, VIEWS)
    assert np.array_equal(log_odds, log_odds_before_calibration(new, VIEWS))
    before, after = Classifier.load(old), Classifier.load(new)
    expected = 1 / (1 + np.exp(-calibrator.logits(log_odds)))
    found = [after.scores(view).p_frontier for view in VIEWS]
    assert found == pytest.approx(expected, abs=1e-5)
    for view in VIEWS:
        assert np.array_equal(before.embedding(view), after.embedding(view))
    assert replay_golden(after, new / GOLDEN).beyond == 0


def test_a_calibrator_can_be_replaced_again_and_leaves_nothing_behind(tmp_path):
    bent, straight = Calibrator(2.0, 0.5, 1.0), Calibrator(0.7, 0.7, -1.0)

    def written(source, name, calibrator):
        folder = tmp_path / name
        write_recalibrated(source, folder, calibrator, 0.4, certificate=NOT_ASKED, lineage={})
        return folder

    once = written(OLD, "once", straight)
    there_and_back = written(written(once, "bent", bent), "back", straight)
    models = [(folder / "model.onnx").read_bytes() for folder in (once, there_and_back)]
    assert models[0] == models[1]
    versions = {Classifier.load(folder).manifest.model_version for folder in (OLD, once)}
    assert len(versions) == 2


def test_what_is_left_is_a_whole_artifact_that_says_where_it_comes_from(swapped, call):
    code, out, _ = call("artifact", "verify", swapped / "out" / "model")
    assert code == 0
    assert "golden vectors reproduced" in out
    old, manifest = Classifier.load(OLD).manifest, Classifier.load(swapped / "out/model").manifest
    assert manifest.model_version != old.model_version
    assert manifest.data["recalibrated_from"]["model_version"] == old.model_version
    assert manifest.encoder == old.encoder
    assert manifest.metrics["calibration"] == "platt"


def test_it_refuses_where_labels_are_too_few_and_says_how_many_it_takes(swapped):
    said = (swapped / "stdout.txt").read_text()
    assert "certificate refused" in said
    assert "labels needed" in said
    assert "registered as challenger" in said
    record = json.loads((swapped / "out" / "recalibration.json").read_text())
    assert record["certificate"]["status"] == "refused"
    assert record["plan"]["status"] in ("reachable", "unreachable")
    assert set(record["stale"]) >= {"promised", "broken", "rate_before", "rate", "risk", "ece"}
    page = (swapped / "out" / "recalibration.html").read_text()
    assert record["model_version"] in page
    assert "http" not in page.replace("http-equiv", "")


def test_rows_that_calibrate_never_certify_and_planned_ones_do_neither(swapped):
    examples = Examples.read_parquet(swapped / "out" / "data" / "examples.parquet")
    splits = {
        split: set(examples.group[examples.split == split]) for split in np.unique(examples.split)
    }
    assert set(splits) == {"calibration", "certification"}
    assert not splits["calibration"] & splits["certification"]
    assert not set(examples.id) & {f"n{row}" for row in range(10)}
    assert len(examples) == 150


def test_a_recalibration_can_be_recalibrated_and_registers_in_the_same_store(swapped, call):
    log = paired_log(swapped / "more.jsonl", rows=80)
    code, _, err = call(
        "recalibrate", swapped / "out", "--logs", log, "--out", swapped / "again", "--alpha", "0.9"
    )
    assert code == 0, err
    runs = [json.loads((swapped / name / "run.json").read_text()) for name in ("out", "again")]
    assert runs[0]["tracking_uri"] == runs[1]["tracking_uri"]
    certificate = Classifier.load(swapped / "again" / "model").manifest.certificate
    assert certificate.status == "granted"


def test_queries_that_the_head_learned_from_are_set_aside(swapped, tmp_path, call):
    run = tmp_path / "run"
    (run / "train").mkdir(parents=True)
    (run / "data").mkdir()
    shutil.copytree(OLD, run / "model")
    shutil.copy(swapped / "out" / "data" / "examples.parquet", run / "data")
    examples = Examples.read_parquet(run / "data" / "examples.parquet")
    learned = examples.table().to_pydict() | {"split": ["train"] * len(examples)}
    import pyarrow as pa

    pq.write_table(pa.Table.from_pydict(learned), run / "data" / "examples.parquet")
    log = paired_log(tmp_path / "paired.jsonl")
    code, _, err = call("recalibrate", run, "--logs", log, "--out", tmp_path / "out")
    assert code == 1
    assert "10 labelled rows to calibrate and certify on, 150 more" in err
    assert "label other queries" in err


def test_it_needs_an_artifact_and_another_folder(tmp_path, call):
    log = paired_log(tmp_path / "paired.jsonl")
    code, _, err = call("recalibrate", tmp_path, "--logs", log, "--out", tmp_path / "out")
    assert code == 2
    assert "holds no artifact" in err
    code, _, err = call("recalibrate", OLD, "--logs", log, "--out", OLD)
    assert code == 2
    assert "name another folder" in err


def test_a_promise_is_broken_where_its_whole_interval_is(tmp_path):
    log = paired_log(tmp_path / "paired.jsonl", rows=60)
    from querytier.data.ingest.labelled_log import Reading
    from querytier.data.ingest.preparing import read_unsplit
    from querytier.data.ingest.sources import LogSource

    examples, _ = read_unsplit([LogSource(log)], Reading(), tmp_path / "quarantine.jsonl")
    scores = np.zeros(len(examples))
    rate = examples.needs_frontier.mean()

    def broken(promised):
        return staleness(
            examples,
            np.full(len(examples), 0.1),
            scores,
            threshold=0.5,
            promised=promised,
            rate_before=0.5,
            seed=1,
        ).broken

    assert 0.1 < rate < 0.5
    assert broken(0.01)
    assert not broken(rate)
    assert not broken(None)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60))
def test_the_interval_of_a_share_holds_the_share(values):
    found = share_of(np.array(values))
    assert 0 <= found.low <= found.value <= found.high <= 1
