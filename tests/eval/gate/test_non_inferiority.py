"""The gate between champion and challenger: its laws, and the verb on two runs of one store."""

import json
import os
import re
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytier.classifier.export.certify_artifact import write_certificate
from querytier.classifier.manifest import Certificate
from querytier.classifier.model.calibrator import Calibrator
from querytier.data.example import Example
from querytier.data.examples import Examples
from querytier.data.leakage import rows_id, seen_in_training
from querytier.errors import UsageError
from querytier.eval.gate.comparisons import Contender, Pair
from querytier.eval.gate.matched_cost import frontier_shares, rates_at_cost
from querytier.eval.gate.non_inferiority import Margins, compare
from querytier.eval.intervals import Resampling
from querytier.eval.rankings import Ranking
from querytier.loop.contenders import (
    Champion,
    interleaved_latencies,
    load_challenger,
    load_champion,
    rows_to_judge_on,
)
from querytier.pipeline.evaluate import evaluate_stage
from querytier.pipeline.export import export_stage
from querytier.pipeline.params import EvaluateParams, Params
from querytier.serve import Router
from querytier.tracking.tracker import REGISTERED_NAME, RunReference, Tracker
from querytier.training.fit import FittedClassifier

mlflow = pytest.importorskip("mlflow")

FEW_REPLICATES = EvaluateParams(bootstrap=100, latency_decisions=5)
MARGINS = Margins(quality=0.01, calibration=0.01, worst_slice=0.05, latency=0.5)
NON_INFERIOR = ["quality at matched cost", "calibration", "worst slice", "latency"]
METRICS = ["quality", "calibration", "worst_slice", "latency", "auroc"]
TEXTS = [field.name for field in fields(Example) if field.type is str]


def examples_of(**columns):
    """Return examples of these columns, the others empty."""
    count = len(columns["needs_frontier"])
    blank = {
        field.name: np.full(count, "", object) if field.name in TEXTS else np.full(count, np.nan)
        for field in fields(Example)
    }
    names = np.array([f"g{n}" for n in range(count)], dtype=object)
    given_ = {"query": names, "group": names, **columns}
    return Examples(**{**blank, **given_})


def scored_rows(count=400, seed=0, *, costs=False):
    """Return examples of two domains, and how much each needs the frontier model."""
    random = np.random.default_rng(seed)
    need = random.normal(size=count)
    chances = 1 / (1 + np.exp(-2 * need))
    labels = (random.random(count) < chances).astype(float)
    columns = {
        "needs_frontier": labels,
        "cheap_score": 1 - labels,
        "frontier_score": np.ones(count),
        "domain": np.where(np.arange(count) % 2, "code", "chat").astype(object),
    }
    if costs:
        columns["cheap_cost"] = np.full(count, 0.1)
        columns["frontier_cost"] = random.uniform(0.5, 5, count)
    return examples_of(**columns), chances


def contender(scores, threshold=0.5, latencies=(1.0,) * 20):
    scores = np.asarray(scores, dtype=float)
    return Contender(
        Ranking("contender", scores, scores.clip(0, 1), ""), threshold, np.asarray(latencies)
    )


def asked(examples, champion, challenger, margins=MARGINS, *, superior_on="quality", rows=100):
    return compare(
        examples,
        champion,
        challenger,
        margins,
        superior_on=superior_on,
        fewest_slice_rows=rows,
        replicates=200,
        seed=1,
    )


def passed(gate):
    return {check.name: check.passed for check in gate.checks}


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from(METRICS), st.booleans(), st.integers(1, 40))
def test_a_challenger_equal_to_the_champion_is_no_worse_and_not_superior(
    seed, metric, costs, levels
):
    examples, chances = scored_rows(120, seed, costs=costs)
    same = contender(np.round(chances * levels) / levels)
    gate = asked(examples, same, same, superior_on=metric, rows=30)
    assert [check.passed for check in gate.checks] == [True] * 4 + [False]
    assert [check.name for check in gate.checks][:4] == NON_INFERIOR
    assert not gate.passed


def test_what_ranks_alike_is_not_superior_by_a_rounding_error():
    examples, chances = scored_rows(costs=True)
    gate = asked(examples, contender(chances), contender(chances**3), superior_on="quality")
    assert not passed(gate)["superior on quality at matched cost"]


@pytest.mark.parametrize("metric", ["quality", "calibration", "worst_slice", "auroc"])
@pytest.mark.parametrize("costs", [False, True])
def test_the_oracle_takes_the_place_of_a_shuffled_champion_and_not_the_reverse(metric, costs):
    examples, chances = scored_rows(costs=costs)
    shuffled = contender(np.random.default_rng(1).permutation(chances))
    oracle = contender(examples.needs_frontier)
    assert asked(examples, shuffled, oracle, superior_on=metric).passed
    back = passed(asked(examples, oracle, shuffled, superior_on=metric))
    assert list(back.values()) == [False, False, False, True, False]


@settings(max_examples=10)
@given(st.integers(0, 1000), st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_what_passes_passes_with_wider_margins(seed, margin, more):
    examples, chances = scored_rows(150, seed)
    noise = np.random.default_rng(seed + 1).normal(0, 0.1, len(chances))
    challenger = contender(chances + noise, latencies=np.linspace(1, 1.4, 20))
    tight = passed(asked(examples, contender(chances), challenger, Margins(*[margin] * 4)))
    wide = passed(asked(examples, contender(chances), challenger, Margins(*[margin + more] * 4)))
    assert all(wide[name] >= tight[name] for name in tight)


@pytest.mark.parametrize(("count", "enough"), [(200, False), (4000, True)])
def test_few_rows_prove_nothing(count, enough):
    examples, chances = scored_rows(count)
    noise = np.random.default_rng(7).normal(0, 0.08, count)
    gate = asked(examples, contender(chances), contender(chances + noise), rows=20)
    assert passed(gate)["quality at matched cost"] == enough


@pytest.mark.parametrize("respect", ["quality", "calibration", "worst_slice"])
def test_a_challenger_as_bad_as_the_margin_is_let_in_once_in_twenty(respect):
    """Simulated: the margin is the true loss, so every pass is an error."""

    def pair(count, seed):
        examples, chances = scored_rows(count, seed)
        noise = np.random.default_rng(seed + 1).normal(0, 0.25, count)
        resampling = Resampling(examples.group.tolist(), 100, seed)
        return Pair(examples, contender(chances), contender(chances + noise), resampling, 50)

    lower_is_better = respect != "quality"
    true = getattr(pair(100_000, 0), respect)().estimate.value
    assert true > 0 if lower_is_better else true < 0
    errors = 0
    for seed in range(1, 201):
        found = getattr(pair(200, seed), respect)().estimate
        errors += found.high < true if lower_is_better else found.low > true
    assert errors <= 20  # P(Binomial(200, 0.05) > 20) is 0.1%


def test_quality_is_compared_at_the_same_dollars_where_costs_are_known():
    labels = np.array([1.0, 1.0, 0.0, 0.0] * 50)
    columns = {
        "needs_frontier": labels,
        "cheap_score": 1 - labels,
        "frontier_score": labels * 0 + 1,
    }
    prices = np.array([1.0, 3.0, 1.0, 1.0] * 50)
    champion = contender(np.array([0.9, 0.1, 0.2, 0.2] * 50))
    challenger = contender(np.array([0.1, 0.9, 0.2, 0.2] * 50))
    free = asked(examples_of(**columns), champion, challenger).checks[0]
    assert free.estimate == pytest.approx(0)
    assert "frontier rate" in free.detail
    dear = examples_of(**columns, cheap_cost=labels * 0, frontier_cost=prices)
    check = asked(dear, champion, challenger).checks[0]
    # A quarter of the rows for 1 dollar each buys a third of those that cost 3.
    assert check.estimate == pytest.approx(0.25 / 3 - 0.25)
    assert "mean cost" in check.detail
    assert not check.passed


def test_without_scores_quality_is_the_share_that_is_caught():
    examples, chances = scored_rows()
    blank = np.full(len(examples), np.nan)
    unscored = replace(examples, cheap_score=blank, frontier_score=blank)
    gate = asked(unscored, contender(chances), contender(1 - chances))
    assert "share of needs_frontier caught" in gate.checks[0].detail
    sent = chances >= np.quantile(chances, 1 - (chances >= 0.5).mean())
    caught = unscored.needs_frontier[sent].sum() / unscored.needs_frontier.sum()
    assert f"against {caught:.4f}" in gate.checks[0].detail


def test_probabilities_that_lie_fail_calibration_alone():
    examples, chances = scored_rows()
    honest = contender(chances)
    lying = replace(honest, ranking=replace(honest.ranking, probabilities=chances**4))
    gate = asked(examples, honest, lying)
    assert [name for name in NON_INFERIOR if not passed(gate)[name]] == ["calibration"]


def test_a_challenger_that_fails_one_slice_is_kept_out_and_the_slice_is_named():
    examples, chances = scored_rows(1000)
    code = examples.domain == "code"
    better = np.where(code, chances, examples.needs_frontier * 0.8 + 0.1 * chances)
    worse_in_code = np.where(code, np.random.default_rng(0).permutation(chances), better)
    gate = asked(examples, contender(chances), contender(worse_in_code))
    check = gate.checks[2]
    assert not check.passed
    assert "worst in 'domain: code'" in check.detail
    assert "worse beyond chance in 'domain: code' (by " in check.detail
    assert "domain: code" in gate.reason


def test_without_a_large_slice_all_rows_are_the_one():
    examples, chances = scored_rows(150)
    gate = asked(examples, contender(chances), contender(chances), rows=140)
    assert "worst in 'all rows'" in gate.checks[2].detail


@pytest.mark.parametrize(
    ("factor", "good", "wins"), [(2, False, False), (1.2, True, False), (0.5, True, True)]
)
def test_latency_is_a_ratio_of_medians(factor, good, wins):
    examples, chances = scored_rows()
    times = np.random.default_rng(0).gamma(20, 0.1, 100)
    slow = contender(chances, latencies=times * factor)
    gate = asked(examples, contender(chances, latencies=times), slow, superior_on="latency")
    assert (passed(gate)["latency"], passed(gate)["superior on latency"]) == (good, wins)
    assert gate.checks[3].estimate == pytest.approx(factor)


def test_the_note_says_what_the_thresholds_do():
    examples, chances = scored_rows()
    gate = asked(examples, contender(chances), contender(chances, threshold=2.0))
    cheap = examples.cheap_score.mean()
    assert f"sends 0.0% to the frontier tier, for a mean score of {cheap:.4f}; the" in gate.note
    assert gate.reason.endswith(gate.note)
    assert gate.to_dict()["checks"][0].keys() >= {"name", "passed", "detail", "margin"}


SCORES = st.lists(st.integers(0, 5), min_size=1, max_size=12).map(lambda xs: np.array(xs, float))


@given(SCORES, st.floats(0, 1), st.integers(0, 100))
def test_shares_add_up_to_the_rate_and_follow_the_scores(scores, rate, seed):
    weights = np.random.default_rng(seed).integers(0, 4, (1, len(scores))).astype(float) + 0.5
    shares = frontier_shares(scores, np.array([rate]), weights)[0]
    assert weights[0] @ shares / weights.sum() == pytest.approx(rate, abs=1e-9)
    order = np.argsort(scores, kind="stable")
    assert (np.diff(shares[order]) >= -1e-12).all()
    assert sum(0 < share < 1 for share in set(shares.tolist())) <= 1


@given(SCORES, st.floats(0, 1))
def test_the_rate_at_a_cost_costs_that_much(scores, rate):
    costs, ones = scores + 0.5, np.ones((1, len(scores)))
    spent = frontier_shares(scores, np.array([rate]), ones) @ costs / len(scores)
    assert rates_at_cost(scores, costs, spent, ones)[0] == pytest.approx(rate, abs=1e-9)


def rows_named(groups, queries):
    count = len(groups)
    texts = {
        "group": np.array(groups, dtype=object),
        "query": np.array(queries, dtype=object),
    }
    return examples_of(needs_frontier=np.zeros(count), **texts)


def test_rows_are_met_before_by_group_by_text_view_and_by_their_groups_mates():
    test = rows_named(["a", "b", "c", "c", "d"], ["one", "two ", "three", "four", "five"])
    learned = rows_named(["a", "x", "y"], ["another", "two", "four"])
    assert seen_in_training(test, learned).tolist() == [True, True, True, True, False]
    assert not seen_in_training(test, learned.where(np.zeros(3, bool))).any()


def test_rows_have_one_name_in_any_order_and_another_when_groups_are_added():
    rows = rows_named(["a", "b", "b"], ["one", "two", "three"])
    assert rows_id(rows) == rows_id(rows.where(np.array([2, 1, 0])))
    assert rows_id(rows) != rows_id(rows_named(["a", "b", "c"], ["one", "two", "three"]))
    assert re.fullmatch("[0-9a-f]{16}", rows_id(rows))


@pytest.fixture(scope="module")
def evaluated(run_dir, tmp_path_factory):
    """Return two runs of one store: a strong one, and the champion, whose probabilities are weak.

    They rank alike, as what ranks here is the gain, which is not calibrated.
    """
    root, settings_ = tmp_path_factory.mktemp("gate"), Params(evaluate=FEW_REPLICATES)
    tracker = Tracker(root)
    for name in ("weak", "strong"):
        for part in ("data", "train", "model"):
            shutil.copytree(run_dir / part, root / name / part)
        with tracker.start(name, {}) as reference:
            reference.write(root / name / "train" / "run.json")
    fitted = FittedClassifier.read(root / "weak" / "train")
    heads = replace(fitted.heads, calibrator=Calibrator(0.1, 0.1, 0.0))
    replace(fitted, heads=heads).write(root / "weak" / "train")
    export_stage(root / "weak", settings_, tracker)
    for name in ("weak", "strong"):
        evaluate_stage(root / name, settings_, tracker)
    return root


@pytest.fixture
def store(evaluated, tmp_path):
    """Return a copy of the folder that a test may change, with a store of its own."""
    root = shutil.copytree(evaluated, tmp_path / "store")
    for name in ("weak", "strong"):
        path = root / name / "train" / "run.json"
        before = RunReference.read(path)
        replace(before, tracking_uri=f"sqlite:///{root}/mlflow.db").write(path)
    (root / "params.yaml").write_text(
        "gate: {fewest_rows: 20, fewest_slice_rows: 15, bootstrap: 200, latency_margin: 9,\n"
        "  latency_queries: 20, superior_on: calibration}\n"
    )
    return root


@pytest.fixture
def gate(call, store):
    """Ask the gate about two folders of the store."""

    def ask(champion, challenger, *more):
        named = [] if champion is None else ["--champion", store / champion]
        params = ["--params", store / "params.yaml"]
        return call("gate", *named, "--challenger", store / challenger, *params, *more)

    return ask


def client_of(store):
    return mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")


def champion_of(store):
    return client_of(store).get_model_version_by_alias(REGISTERED_NAME, "champion")


def model_version_of(folder):
    return json.loads((folder / "model" / "manifest.json").read_text())["model_version"]


def run_of(store, name):
    return client_of(store).get_run(RunReference.read(store / name / "train" / "run.json").run_id)


def test_an_evaluation_does_not_dethrone_a_champion_and_says_what_does(store):
    assert champion_of(store).tags["model_version"] == model_version_of(store / "weak")
    strong = client_of(store).get_model_version_by_alias(REGISTERED_NAME, "challenger")
    assert strong.tags["model_version"] == model_version_of(store / "strong")
    assert strong.tags["gate"] == "passed"
    metrics = json.loads((store / "strong" / "metrics.json").read_text())
    assert metrics["gate"]["passed"]
    assert "`querytier gate --champion DIR --challenger " in metrics["gate"]["reason"]
    assert metrics["gate"]["reason"] == strong.tags["gate_reason"]


def test_an_evaluation_counts_as_a_use_of_its_test_rows(store):
    uses = [
        json.loads((store / name / "metrics.json").read_text())["test_uses"]
        for name in ("weak", "strong")
    ]
    assert uses == [1, 2]
    tags = [run_of(store, name).data.tags["test_rows"] for name in ("weak", "strong")]
    test = Examples.read_parquet(store / "weak" / "data" / "examples.parquet").of_split("test")
    assert tags == [rows_id(test)] * 2


def test_a_challenger_that_passes_becomes_champion(gate, store):
    code, out, err = gate("weak", "strong")
    assert code == 0, err
    for check in [*NON_INFERIOR, "superior on calibration"]:
        assert check in out
    assert "47 of the challenger's 47 test rows" in out
    assert "use 3 of these test rows" in out
    assert f"verdict: {store / 'strong' / 'gate.json'}" in out
    champion = champion_of(store)
    assert champion.tags["model_version"] == model_version_of(store / "strong")
    assert champion.tags["gate"] == "passed"
    assert champion.tags["gate_reason"].startswith("quality at matched cost")
    assert run_of(store, "strong").data.tags["gate_reason"] == champion.tags["gate_reason"]
    verdict = json.loads((store / "strong" / "gate.json").read_text())
    assert verdict["passed"]
    assert verdict["rows"] == {"test": 47, "left_out": 0, "used": 47, "groups": 47}
    assert [check["margin"] for check in verdict["checks"]] == [0.01, 0.01, 0.05, 9.0, 0.0]
    (use,) = client_of(store).search_runs(["1"], "tags.`mlflow.runName` = 'gate'")
    assert use.info.status == "FINISHED"
    assert use.data.tags["champion"] == verdict["champion"]["model_version"]
    assert use.data.tags["challenger"] == verdict["challenger"]["model_version"]
    assert use.data.tags["test_rows"] == verdict["test_rows"]
    assert use.data.metrics["calibration"] == verdict["checks"][1]["estimate"]
    assert use.data.params["superior_on"] == "calibration"
    code, _, err = gate("weak/model", "weak")
    assert (code, "the registry has another champion" in err) == (2, True)


def test_a_challenger_that_fails_leaves_the_champion_and_every_look_is_counted(gate, store):
    before = champion_of(store).version
    for uses in (3, 4):
        code, out, _ = gate("weak/model", "weak", "--json")
        verdict = json.loads(out)
        assert (code, verdict["passed"], verdict["test_uses"]) == (1, False, uses)
    assert verdict["champion"]["learned_from"] == "the challenger's data, in the same splits"
    assert [check["passed"] for check in verdict["checks"]][::4] == [True, False]
    champion = champion_of(store)
    assert (champion.version, champion.tags["gate"]) == (before, "failed")
    assert run_of(store, "weak").data.tags["gate"] == "failed"


def test_a_run_with_a_store_of_its_own_can_be_compared(call, store, run_dir):
    own = shutil.copytree(run_dir, store / "own")
    reference = RunReference.read(own / "train" / "run.json")
    replace(reference, tracking_uri=f"sqlite:///{own}/mlflow.db").write(own / "train" / "run.json")
    params = store / "params.yaml"
    params.write_text(params.read_text().replace("on: calibration", "on: auroc"))
    named = ["--champion", store / "weak", "--challenger", own]
    code, out, _ = call("gate", *named, "--params", params)
    assert (code, "need one store (MLFLOW_TRACKING_URI" in out) == (1, True)
    verdict = json.loads((own / "gate.json").read_text())
    assert verdict["registered_champion"] == model_version_of(own)


def test_a_look_that_is_deleted_still_counts(gate, store):
    assert gate("weak", "weak")[0] == 1
    client = client_of(store)
    (use,) = client.search_runs(["1"], "tags.`mlflow.runName` = 'gate'")
    client.delete_run(use.info.run_id)
    assert json.loads(gate("weak", "weak", "--json")[1])["test_uses"] == 4


def test_a_champion_is_not_passed_by_for_want_of_a_name(gate, store):
    code, _, err = gate(None, "strong")
    assert (code, "name its folder: --champion DIR" in err) == (2, True)
    assert champion_of(store).tags["model_version"] == model_version_of(store / "weak")


def test_without_a_champion_the_absolute_checks_decide(gate, store):
    client_of(store).delete_registered_model_alias(REGISTERED_NAME, "champion")
    code, out, _ = gate(None, "strong")
    assert code == 0
    assert "better than the keyword heuristic" in out
    assert champion_of(store).tags["model_version"] == model_version_of(store / "strong")


def test_rows_that_the_champion_learned_from_are_left_out(store):
    challenger = load_challenger(store / "strong")
    test = challenger.test
    learned = test.where(np.arange(len(test)) % 2 == 0)
    champion = Champion(store / "weak", challenger.router, learned, "its run's data")
    rows = rows_to_judge_on(challenger, champion, 20)
    assert set(rows.examples.id) == set(test.id) - set(learned.id)
    assert rows.counts()["left_out"] == len(learned)
    assert rows.name == rows_id(test)
    with pytest.raises(UsageError, match=r"23 of the 47 test rows .* learned from 24; at least 24"):
        rows_to_judge_on(challenger, champion, 24)


def test_an_artifact_trained_on_other_data_is_said_to_be(store):
    challenger = load_challenger(store / "strong")
    router = challenger.router
    data = {**router.classifier.manifest.data, "fingerprint": "0" * 64}
    manifest = replace(router.classifier.manifest, data=data)
    other = replace(router, classifier=replace(router.classifier, manifest=manifest))
    champion = load_champion(store / "weak" / "model", replace(challenger, router=other))
    assert champion.learned is None
    assert champion.known.startswith("not known: these rows may be among it (fingerprint")


def test_a_champion_whose_certificate_has_lapsed_is_judged_by_its_classifier(store):
    lapsed = Certificate("granted", "long ago", {"expires": "2020-01-01"})
    write_certificate(store / "weak" / "model", lapsed, None)
    assert Router.load(store / "weak" / "model").decide("Hi").reason == "fallback:certificate"
    champion = load_champion(store / "weak", load_challenger(store / "strong"))
    assert champion.router.decide("Hi").reason == "classifier"


def test_too_few_rows_are_refused_before_they_are_looked_at(call, store):
    named = ["--champion", store / "weak", "--challenger", store / "strong"]
    code, _, err = call("gate", *named)
    assert code == 2
    assert "47 of the 47 test rows" in err
    assert "at least 200 are needed (gate.fewest_rows)" in err
    assert not (store / "strong" / "gate.json").exists()
    assert not client_of(store).search_runs(["1"], "tags.`mlflow.runName` = 'gate'")


def test_a_challenger_that_is_not_registered_is_refused(gate, store):
    client = client_of(store)
    strong = client.get_model_version_by_alias(REGISTERED_NAME, "challenger")
    client.delete_model_version(REGISTERED_NAME, strong.version)
    code, _, err = gate("weak", "strong")
    assert code == 2
    assert "is not registered at sqlite:///" in err
    assert "run `querytier evaluate" in err


def test_data_that_were_prepared_anew_are_refused(gate, store):
    path = store / "strong" / "data" / "summary.json"
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    for pair in (("weak", "strong"), ("strong", "weak")):
        code, _, err = gate(*pair)
        assert code == 2
        assert re.search("model was not trained on what .*data holds", err)


def test_a_challenger_has_to_be_a_run(gate):
    code, _, err = gate("weak", "strong/model")
    assert (code, "has to be what --out of a run was" in err) == (2, True)


def test_another_store_or_none_is_refused(gate, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere/mlflow.db")
    code, _, err = gate("weak", "strong")
    assert (code, "set MLFLOW_TRACKING_URI as it was" in err) == (1, True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (store / "mlflow.db").unlink()
    code, _, err = gate("weak", "strong")
    assert (code, "which is gone; put it back" in err) == (1, True)
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_each_router_is_asked_first_in_turn(router):
    asked_ = []

    class Listening:
        def __init__(self, name):
            self.name = name

        def decide(self, query):
            asked_.append(self.name)
            return router.decide(query)

    times = interleaved_latencies(Listening("a"), Listening("b"), ["one", "two", "three"])
    assert "".join(asked_) == "ababab" + "abbaab"
    assert all((part > 0).all() and part.shape == (3,) for part in times)
