"""`querytier recalibrate`: a new calibrator for the old ranking, a promise or an honest refusal."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.classifier.golden import golden_queries
from querytier.classifier.model.calibrator import Calibrator
from querytier.classifier.model.encoder import load_encoder
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Heads, Member
from querytier.classifier.model.nets import Linear
from querytier.classifier.runtime import Classifier, GraphOutputs
from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import EXAMPLES, read_prepared, read_unsplit
from querytier.data.ingest.sources import LogSource
from querytier.data.text_view import text_view
from querytier.errors import ExportError
from querytier.eval.staleness import share_of, staleness
from querytier.loop.recalibration import overtaking, recalibrate
from querytier.pipeline.export import export_stage
from querytier.pipeline.feature_blocks import FeatureBlocks
from querytier.pipeline.params import Params
from querytier.pipeline.prepare import prepare_stage
from querytier.pipeline.train import EMBEDDINGS, RUN
from querytier.tracking.tracker import Tracker
from querytier.training.encoders.static import static_encoder
from querytier.training.fit import Calibration, FittedClassifier
from querytier.training.learners import LinearLearner
from querytier.training.recipes import Recipe

ARTIFACT = Path(__file__).parents[1] / "fixtures" / "artifacts" / "format-2"
THINGS = ["parcel", "invoice", "kettle", "garden", "ferry", "archive", "contract", "sensor"]
WORDS = [*THINGS, "where", "is", "prove", "that", "optimal", "in", "stock", "?"]
BUDGET = ("flip_share", "max_difference", "mean_difference")
HARD, EASY = ("Prove that {} {} is optimal", "Where is {} {}?")
VIEWS = [text_view(query) for query in golden_queries() if text_view(query)][:100]


def paired_log(path, rows=160, planned=0, wording=(HARD, EASY)):
    """Write labels of a pair of models: the cheap one often fails if the query asks for a proof."""
    random = np.random.default_rng(3)
    lines = []
    for row in range(rows):
        hard = row % 3 == 0
        query = wording[0 if hard else 1].format(THINGS[row % len(THINGS)], row)
        cheap = float(random.random() < (0.3 if hard else 0.95))
        line = {"id": f"n{row}", "query": query, "cheap_score": cheap, "frontier_score": 1.0}
        lines.append(line | ({"selected": "planned"} if row < planned else {}))
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


@dataclass(frozen=True)
class Kind:
    """How a run's artifact is made."""

    encoder: str
    ranks_by: str
    precision: str

    @property
    def params(self):
        """Parameters for export and recalibration; no flips forbid this precision."""
        return Params.model_validate(
            {
                "export": {
                    "precision": self.precision,
                    "drift": dict.fromkeys(
                        ["flip_share", "max_difference", "mean_difference"], 0.99
                    ),
                },
                "recalibrate": {"calibration": "beta"},
            }
        )


BY_GAIN = Kind("static", "gain", "fp32")
BY_NEED = Kind("static", "p_frontier", "fp32")
QUANTISED = Kind("minilm3", "gain", "int8-weights")


def run_of(kind, root, log):
    """Return the folder of a run with random heads, laid out as by its stages."""
    out = root / f"{kind.encoder}-{kind.ranks_by}"
    prepare_stage([LogSource(log)], out, kind.params)
    examples, _ = read_prepared(out)
    # A log this small has no calibration split of its own.
    split = np.where(examples.split == "test", "calibration", examples.split)
    examples = replace(examples, split=split.astype(object))
    examples.write_parquet(out / "data" / EXAMPLES)
    random = np.random.default_rng(0)
    if kind.encoder == "static":
        table = random.normal(size=(2 + len(WORDS), 8)).astype(np.float32)
        table[0] = 0
        encoder = static_encoder("static", table, WORDS)
    else:
        encoder = load_encoder(layers=3)
    need, gain = (
        Linear(random.normal(size=(outputs, encoder.dimension)), np.zeros(outputs))
        for outputs in (1, 3)
    )
    recipe = Recipe((LinearLearner((kind.encoder,), 1.0),), kind.ranks_by)
    auroc = {"value": 0.5, "low": 0.4, "high": 0.6}
    fitted = FittedClassifier(
        Heads((Member((kind.encoder,), need, gain),), kind.ranks_by),
        recipe,
        "auroc",
        0.1,
        0.3,
        Calibration("platt", "a test", "calibration", 1, {}, None),
        [{"name": recipe.name, "auroc": auroc}],
    )
    (out / "train").mkdir()
    FeatureBlocks({kind.encoder: Features(kind.encoder, encoder)}).write(out / "train")
    fitted.write(out / "train")
    seen = examples.of_split("train", "calibration")
    np.save(out / "train" / EMBEDDINGS, encoder.encode(seen.views()))
    tracker = Tracker(root)
    with tracker.start("a test", {}) as reference:
        reference.write(out / "train" / RUN)
    export_stage(out, kind.params, tracker)
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a function from a kind to a run of it, made once."""
    root, made = tmp_path_factory.mktemp("runs"), {}
    log = paired_log(root / "old.jsonl", 200, wording=("Sort {} {} by hand", "Is {} {} in stock?"))

    def run(kind):
        if kind not in made:
            made[kind] = run_of(kind, root, log)
        return made[kind]

    return run


@pytest.fixture(scope="module")
def swapped(runs, tmp_path_factory):
    """Return the folder of a recalibration of a run on 150 labels, ten more of them planned."""
    folder = tmp_path_factory.mktemp("swap")
    log = paired_log(folder / "paired.jsonl", planned=10)
    params = BY_GAIN.params.model_copy(
        update={"certify": BY_GAIN.params.certify.model_copy(update={"alpha": 0.1})}
    )
    recalibrate(runs(BY_GAIN), [LogSource(log)], folder / "out", Reading(), params)
    return folder / "out"


def outputs_of(folder):
    classifier = Classifier.load(folder / "model")
    scores = [classifier.scores(view) for view in VIEWS]
    return classifier.manifest, scores, np.array([classifier.embedding(view) for view in VIEWS])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(BY_GAIN, id="gain"),
        pytest.param(BY_NEED, id="p_frontier"),
        pytest.param(QUANTISED, id="quantised", marks=pytest.mark.slow),
    ],
)
def test_the_ranking_stays_and_the_precision_too(kind, runs, tmp_path):
    """Re-export replaced surgery on the old graph, which kept the ranking by construction."""
    run, log = runs(kind), paired_log(tmp_path / "paired.jsonl")
    recalibrate(run, [LogSource(log)], tmp_path / "out", Reading(), kind.params)
    before, old, embeddings = outputs_of(run)
    after, new, same = outputs_of(tmp_path / "out")
    assert after.precision == before.precision == kind.precision
    assert after.decision_score == before.decision_score == kind.ranks_by
    assert after.model_version != before.model_version
    np.testing.assert_array_equal(embeddings, same)
    if kind.ranks_by == "gain":
        assert [one.gain for one in new] == [one.gain for one in old]
    order = np.argsort([one.p_frontier for one in old])
    assert (np.diff(np.array([one.p_frontier for one in new])[order]) >= -1e-6).all()
    assert [one.p_frontier for one in new] != [one.p_frontier for one in old]


def test_the_result_is_a_whole_run_that_names_its_origin(swapped, runs, call):
    code, out, _ = call("artifact", "verify", swapped / "model")
    assert code == 0
    assert "golden vectors reproduced" in out
    old = Classifier.load(runs(BY_GAIN) / "model").manifest
    manifest = Classifier.load(swapped / "model").manifest
    assert manifest.data["recalibrated_from"]["model_version"] == old.model_version
    assert manifest.encoder == old.encoder
    assert manifest.metrics["calibration"] == "beta"
    assert (
        FittedClassifier.read(swapped / "train").threshold == manifest.metrics["target_threshold"]
    )


def test_too_few_labels_are_refused_with_the_number_needed(swapped):
    record = json.loads((swapped / "recalibration.json").read_text())
    assert record["certificate"]["status"] == "refused"
    assert record["plan"]["status"] in ("reachable", "unreachable")
    assert any(line.startswith("labels needed: ") for line in record["lines"])
    assert set(record["stale"]) >= {"promised", "broken", "rate_before", "rate", "risk", "ece"}
    page = (swapped / "recalibration.html").read_text()
    assert record["model_version"] in page
    assert "http" not in page.replace("http-equiv", "")


def test_rows_calibrate_or_certify_and_planned_ones_do_neither(swapped):
    examples = Examples.read_parquet(swapped / "data" / "examples.parquet")
    splits = {
        split: set(examples.group[examples.split == split]) for split in np.unique(examples.split)
    }
    assert set(splits) == {"calibration", "certification"}
    assert not splits["calibration"] & splits["certification"]
    assert not set(examples.id) & {f"n{row}" for row in range(10)}
    assert len(examples) == 150


def test_a_recalibrated_run_can_be_recalibrated_again(swapped, runs, tmp_path, call):
    log = paired_log(tmp_path / "more.jsonl", rows=80)
    code, out, err = call(
        "recalibrate", swapped, "--logs", log, "--out", tmp_path / "again", "--alpha", "0.9"
    )
    assert code == 0, err
    assert "registered as challenger" in out
    folders = (runs(BY_GAIN), swapped, tmp_path / "again")
    stores = {json.loads((one / "train" / RUN).read_text())["tracking_uri"] for one in folders}
    assert len(stores) == 1
    certificate = Classifier.load(tmp_path / "again" / "model").manifest.certificate
    assert certificate.status == "granted"


def test_the_command_exits_with_1_if_it_cannot_promise(runs, tmp_path, call):
    log = paired_log(tmp_path / "paired.jsonl", rows=60)
    options = ["--logs", log, "--out", tmp_path / "out", "--alpha", "0.05", "--json"]
    code, out, _ = call("recalibrate", runs(BY_GAIN), *options)
    assert code == 1
    assert json.loads(out)["certificate"]["status"] == "refused"


def test_queries_that_the_head_was_trained_on_are_set_aside(runs, tmp_path, call):
    run = Path(shutil.copytree(runs(BY_GAIN), tmp_path / "run"))
    known = Examples.read_parquet(run / "data" / "examples.parquet")
    queries = known.of_split("train").query[:60]
    lines = [
        {"query": query, "cheap_score": 1.0, "frontier_score": float(row % 2)}
        for row, query in enumerate(queries)
    ]
    log = tmp_path / "paired.jsonl"
    log.write_text("\n".join(map(json.dumps, lines)) + "\n")
    code, _, err = call("recalibrate", run, "--logs", log, "--out", tmp_path / "out")
    assert code == 1
    assert "because the head was trained on the queries of 60 others" in err
    assert "label other queries" in err


def test_a_train_folder_newer_than_the_artifact_is_refused(runs, tmp_path):
    run = Path(shutil.copytree(runs(BY_GAIN), tmp_path / "run"))
    fitted = FittedClassifier.read(run / "train")
    (member,) = fitted.heads.members
    turned = replace(member, gain=Linear(-member.gain.weights, member.gain.bias))
    replace(fitted, heads=replace(fitted.heads, members=(turned,))).write(run / "train")
    log = paired_log(tmp_path / "paired.jsonl")
    with pytest.raises(ExportError, match=r"ranks queries differently.*`querytier export` on the"):
        recalibrate(run, [LogSource(log)], tmp_path / "out", Reading(), BY_GAIN.params)
    assert not (tmp_path / "out" / "model").exists()


@given(
    st.lists(st.floats(-60, 60), min_size=1, max_size=30),
    st.floats(0, 3),
    st.floats(0.01, 3),
    st.floats(-3, 3),
)
def test_another_calibrator_lets_no_query_overtake_another(log_odds, old, new, offset):
    """Also if the old one gave many queries the same probability, which then have no order."""
    z = np.array(log_odds)
    before, after = (
        Calibrator(slope, slope, offset).probabilities(z).astype(np.float32).astype(np.float64)
        for slope in (old, new)
    )
    assert overtaking(before, after) <= 1e-5


def test_a_champion_that_links_to_its_artifact_means_its_run(runs, tmp_path):
    (tmp_path / "champion").symlink_to(runs(BY_GAIN) / "model")
    log = LogSource(paired_log(tmp_path / "paired.jsonl"))
    found = recalibrate(tmp_path / "champion", [log], tmp_path / "out", Reading(), BY_GAIN.params)
    assert found.manifest.decision_score == "gain"
    assert (tmp_path / "out" / "train").is_dir()


def test_it_needs_the_run_of_an_artifact_and_another_folder(runs, tmp_path, call):
    log = paired_log(tmp_path / "paired.jsonl")
    code, _, err = call("recalibrate", ARTIFACT, "--logs", log, "--out", tmp_path / "out")
    assert code == 2
    assert "has no train/" in err
    assert "if only the artifact is left, train on labels of the new pair" in err
    run = runs(BY_GAIN)
    code, _, err = call("recalibrate", run, "--logs", log, "--out", run)
    assert code == 2
    assert "name another folder" in err


def test_a_promise_is_broken_if_its_whole_interval_is_above(tmp_path):
    log = paired_log(tmp_path / "paired.jsonl", rows=60)
    examples, _ = read_unsplit([LogSource(log)], Reading(), tmp_path / "quarantine.jsonl")
    outputs = GraphOutputs(np.full(len(examples), 0.1), np.zeros(len(examples)), 0.5)
    rate = examples.needs_frontier.mean()

    def broken(promised):
        return staleness(examples, outputs, promised=promised, rate_before=0.5, seed=1).broken

    assert 0.1 < rate < 0.5
    assert broken(0.01)
    assert not broken(rate)
    assert not broken(None)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60))
def test_the_interval_of_a_share_contains_the_share(values):
    found = share_of(np.array(values))
    assert 0 <= found.low <= found.value <= found.high <= 1
