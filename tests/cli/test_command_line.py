"""The command line as the user sees it: verbs, results, messages, exit codes."""

import csv
import gzip
import json
import re

import pyarrow.parquet as pq
import pytest
import typer

from querytier import __version__
from querytier.cli.main import app
from querytier.data.examples import Examples
from querytier.serve import Router

ESTIMATES = ["auroc", "average_precision", "apgr", "cpt50", "cpt80"]
NUMBERS = ["brier", "ece", "frontier_rate", "quality_retained", "cost_saved"]
ROWS = ["classifier", "keyword_heuristic", "length", "constant", "shuffled_decisions"]
ROWS += ["tfidf_lr", "knn", "domain_prior", "oracle"]


@pytest.fixture(scope="module")
def metrics(run_dir):
    return json.loads((run_dir / "metrics.json").read_text())


def verbs_of(group, *words):
    """Return every verb of the command line, as the words that call it, with its command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs_of(command, *words, name)
        else:
            yield (*words, name), command


VERBS = dict(verbs_of(typer.main.get_command(app)))


def test_the_version_is_printed(call):
    assert call("--version") == (0, f"querytier {__version__}\n", "")


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_the_help_of_a_verb_has_an_example(call, words):
    code, out, _ = call(*words, "--help")
    assert code == 0
    assert f"Example: querytier {' '.join(words)}" in re.sub(r"\s+", " ", out)


def test_help_has_panels_and_whole_descriptions(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("--help")
    assert code == 0
    assert re.findall(r"^(\w+):$", out, re.MULTILINE) == [
        "Options",
        "Start",
        "Pipeline",
        "Champion",
        "Data",
    ]
    assert "..." not in out.split("Options:")[1]
    text = re.sub(r"\s+", " ", out)
    for words, command in VERBS.items():
        sentence = command.help.split("\n\n")[0].split(". ")[0].rstrip(".")
        assert f" {' '.join(words)} {sentence}." in text


@pytest.mark.parametrize(
    ("old", "new"), [("plan", "sample-size"), ("plan-labels", "select-queries")]
)
def test_a_renamed_verb_names_its_new_name(call, old, new):
    code, _, err = call(old, "runs/first")
    assert (code, err) == (2, f"querytier: `querytier {old}` is now `querytier {new}`\n")


@pytest.mark.parametrize(
    ("module", "extra"), [("mlflow", "train"), ("sklearn", "train"), ("starlette", "serve")]
)
def test_a_package_that_is_missing_names_its_extra(call, monkeypatch, module, extra):
    def fail(*_):
        raise ModuleNotFoundError(f"No module named '{module}.sub'", name=f"{module}.sub")

    monkeypatch.setattr("querytier.serve.Router.load", fail)
    code, _, err = call("decide", "Hi", "--artifact", "a")
    assert code == 1
    assert err.startswith(f"querytier: {module} is not installed")
    assert f"'querytier[{extra}]'" in err


def test_a_module_of_no_extra_that_is_missing_is_an_error_of_ours(call, monkeypatch):
    def fail(*_):
        raise ModuleNotFoundError("No module named 'querytier.gone'", name="querytier.gone")

    monkeypatch.setattr("querytier.serve.Router.load", fail)
    with pytest.raises(ModuleNotFoundError, match="gone"):
        call("decide", "Hi", "--artifact", "a")


def test_a_run_leaves_metrics_report_artifact_and_tracking_store(run_dir):
    found = {path.name for path in run_dir.iterdir()}
    assert {"metrics.json", "report.html", "model", "mlflow.db", "mlartifacts", "data"} <= found
    assert not [name for name in found if name.startswith(".")]


def test_a_run_ends_with_table_report_artifact_and_mlflow_command(run_dir):
    printed = (run_dir / "stdout.txt").read_text()
    for name in ROWS:
        assert name in printed
    assert f"report:   {run_dir / 'report.html'}" in printed
    assert f"artifact: {run_dir / 'model'}" in printed
    assert f"mlflow ui --backend-store-uri sqlite:///{run_dir}/mlflow.db" in printed
    assert "…" not in printed


def test_show_prints_a_query_unchanged(call, run_dir):
    """Brackets in a query are not terminal markup."""
    code, out, _ = call("show", run_dir, "--query", "Is [/b] a tag?")
    assert code == 0
    assert "Is [/b] a tag?" in out


def test_metrics_have_their_stable_keys_and_intervals(metrics):
    assert [row["name"] for row in metrics["rows"]] == ROWS
    for row in metrics["rows"]:
        for key in ESTIMATES:
            assert row[key]["low"] <= row[key]["value"] <= row[key]["high"]
        for key in NUMBERS:
            if row[key] is None:
                assert row["reasons"][key] == "its score is not a probability"
            else:
                interval = row["intervals"][key]
                assert interval["low"] <= interval["high"]
        assert row["frontier_rate"] == metrics["rows"][0]["frontier_rate"]
    assert metrics["certificate"]["status"] == "refused"
    assert "not requested" in metrics["certificate"]["reason"]
    latency = metrics["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    n = metrics["n"]
    assert n["train"] + n["test"] == n["usable"] == n["rows"] == 260
    assert n["calibration"] == n["certification"] == 0


def test_known_rows_have_their_known_values(metrics):
    rows = {row["name"]: row for row in metrics["rows"]}
    assert rows["constant"]["auroc"]["value"] == 0.5
    assert rows["constant"]["apgr"]["value"] == pytest.approx(0.5)
    assert rows["constant"]["cpt80"]["value"] == pytest.approx(0.8)
    shuffled = rows["shuffled_decisions"]
    assert shuffled["auroc"]["low"] < 0.5 < shuffled["auroc"]["high"]
    assert shuffled["fitted_on"] == "our own decisions, shuffled"
    assert rows["oracle"]["auroc"]["value"] == 1.0
    assert rows["oracle"]["average_precision"]["value"] == 1.0
    assert rows["oracle"]["apgr"]["value"] == max(row["apgr"]["value"] for row in rows.values())


def test_costs_and_quality_can_be_counted_from_the_decisions(metrics, run_dir, router):
    test = Examples.read_parquet(run_dir / "data" / "examples.parquet").of_split("test")
    frontier = [router.decide(query).tier == "frontier" for query in test.query]
    pairs = list(zip(frontier, test.cheap_score, test.frontier_score, strict=True))
    quality = sum(f if sent else c for sent, c, f in pairs) / test.frontier_score.sum()
    pairs = list(zip(frontier, test.cheap_cost, test.frontier_cost, strict=True))
    saved = 1 - sum(f if sent else c for sent, c, f in pairs) / test.frontier_cost.sum()
    ours = metrics["rows"][0]
    assert ours["frontier_rate"] == pytest.approx(sum(frontier) / len(frontier))
    assert ours["quality_retained"] == pytest.approx(quality)
    assert ours["cost_saved"] == pytest.approx(saved)


def test_the_report_names_what_is_compared_with_the_threshold(run_dir, router):
    report = (run_dir / "report.html").read_text()
    assert f"frontier if {router.classifier.manifest.decision_score} ≥" in report


def test_the_report_fetches_nothing_and_describes_its_pictures(run_dir):
    report = (run_dir / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", report)
    assert not re.findall(r"url\((?!#)|@import|<script", report)
    assert len(re.findall(r'<svg role="img" aria-label="[^"]{20,}"', report)) == 3
    assert len(report) < 2_000_000
    for name in ROWS:
        assert f"<td>{name}<small>" in report
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", report, flags=re.DOTALL).lower().split()


def test_decide_prints_one_json_line(call, artifact):
    code, out, _ = call("decide", "Prove it.", "--artifact", artifact)
    assert code == 0
    decision = json.loads(out)
    assert out.count("\n") == 1
    keys = ["tier", "p_frontier", "gain", "decision_score", "threshold", "reason"]
    keys += ["propensity", "model_version"]
    assert list(decision) == [*keys, "latency_ms", "audit", "audit_propensity"]
    same = Router.load(artifact).decide("Prove it.").to_dict()
    assert {key: decision[key] for key in keys} == {key: same[key] for key in keys}


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_score_writes_the_decisions_of_decide(call, artifact, router, tmp_path, name):
    log = tmp_path / "log.jsonl"
    queries = ["Where is my order?", "Prove that the strategy is optimal.", "日本語\ud800"]
    lines = [json.dumps({"text": query, "key": n}) for n, query in enumerate(queries)]
    log.write_text("\n".join([*lines, "{", json.dumps({"text": ""})]))
    params = tmp_path / "params.yaml"
    params.write_text("prepare: {max_bad_share: 0.5}")
    arguments = ["--artifact", artifact, "--out", tmp_path / name, "--params", params]
    code, out, err = call("score", log, "--map", "query=text,id=key", *arguments)
    assert (code, err.count("Traceback")) == (0, 0)
    assert "3 rows scored" in out
    if name.endswith(".csv"):
        with (tmp_path / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pq.read_table(tmp_path / name).to_pylist()
    assert list(rows[0]) == ["id", "p_frontier", "decision_score", "tier"]
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    for row, query in zip(rows, queries, strict=True):
        decision = router.decide(query)
        assert float(row["decision_score"]) == pytest.approx(decision.gain, abs=1e-6)
        assert float(row["p_frontier"]) == pytest.approx(decision.p_frontier, abs=1e-6)
        assert row["tier"] == decision.tier
    quarantine = (tmp_path / f"{name}.quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in quarantine] == [4, 5]


def test_labels_that_a_person_corrects_are_applied_and_recorded(
    call, scored_log, scored_map, tmp_path
):
    table = tmp_path / "suspects.csv"
    code, out, _ = call("data", "audit", scored_log, "--map", scored_map, "--out", table)
    assert code == 0
    assert f"next: querytier run {scored_log}" in out
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert rows
    rows[0]["corrected_label"] = "0.75"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    params = tmp_path / "params.yaml"
    params.touch()
    arguments = ["--map", scored_map, "--out", tmp_path / "out", "--params", params]
    assert call("prepare", scored_log, *arguments, "--corrections", table)[0] == 0
    examples = Examples.read_parquet(tmp_path / "out" / "data" / "examples.parquet")
    corrected = examples.label_source == "correction"
    assert examples.needs_frontier[corrected].tolist() == [0.75]
    assert examples.id[corrected].tolist() == [rows[0]["id"].removeprefix("'")]
    summary = json.loads((tmp_path / "out" / "data" / "summary.json").read_text())
    assert summary["label_sources"]["correction"] == 1
    rows[0]["id"] = "'nobody"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    code, _, err = call("prepare", scored_log, *arguments, "--corrections", table)
    assert (code, "no example has the id 'nobody'" in err) == (2, True)


def test_evaluate_judges_an_artifact_on_other_logs_without_scores(call, artifact, tmp_path):
    log = tmp_path / "log.csv"
    hard, easy = "Prove the bound {} is tight.", "What time is it in zone {}?"
    rows = [(hard.format(n), 1) for n in range(30)] + [(easy.format(n), 0) for n in range(40)]
    with log.open("w", newline="") as file:
        csv.writer(file).writerows([("query", "needs_frontier"), *rows])
    params = tmp_path / "params.yaml"
    params.write_text("evaluate: {bootstrap: 100, latency_decisions: 5}")
    out = tmp_path / "out"
    arguments = ["--artifact", artifact, "--out", out, "--params", params]
    assert call("evaluate", log, *arguments)[0] == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert [row["name"] for row in metrics["rows"]] == [n for n in ROWS if n != "domain_prior"]
    assert metrics["rows_left_out"] == {"domain_prior": "the log has no domains"}
    assert metrics["rows"][3]["auroc"]["value"] == 0.5
    assert metrics["n"]["evaluated"] == 70
    assert metrics["rows"][0]["auroc"]["value"] > 0.9
    for row in metrics["rows"]:
        assert row["apgr"]["value"] is None
        assert "no scores of both tiers" in row["apgr"]["reason"]
        assert row["quality_retained"] is None
    assert metrics["gate"] is None
    assert "no scores of answers" in (out / "report.html").read_text()


def run_on(call, tmp_path, *more, log=None, mapped="query=q,needs_frontier=y"):
    log = log or tmp_path / "log.jsonl"
    return call("run", log, "--map", mapped, "--out", tmp_path / "out", *more)


def write_log(tmp_path, labels):
    lines = [json.dumps({"q": f"query {n}", "y": label}) for n, label in enumerate(labels)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))


BAD_RUNS = {
    "few rows": ([0, 1] * 50, (), 1, "has 100 usable rows .* at least 200"),
    "one class": ([0] * 300, (), 1, "one class only: 0 rows need the frontier .* --ok-threshold"),
    "rare class": ([0] * 300 + [1] * 3, (), 1, "too few of one class: 3 rows"),
    "no usable row": (
        ["?"] * 10,
        (),
        1,
        "none of the 10 records is usable .needs_frontier is",
    ),
}


@pytest.mark.parametrize("name", BAD_RUNS)
def test_a_log_that_cannot_be_learned_from_ends_with_one_message(call, tmp_path, name):
    labels, more, code, message = BAD_RUNS[name]
    write_log(tmp_path, labels)
    found, _, err = run_on(call, tmp_path, *more)
    assert found == code
    assert re.search(message, err)
    assert err.startswith("querytier: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.parametrize("queries", [1, 3])
def test_a_log_of_repeated_queries_ends_with_1(call, tmp_path, queries):
    lines = [json.dumps({"q": f"query {n % queries}", "y": n % 2}) for n in range(300)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    code, _, err = run_on(call, tmp_path)
    assert code == 1
    assert re.search("no row for the split|groups are too few for|holds? one class", err)


def test_scores_that_are_not_numbers_make_no_label(call, tmp_path):
    lines = [json.dumps({"q": f"query {n}", "c": "NaN", "f": float("nan")}) for n in range(300)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    code, _, err = run_on(call, tmp_path, mapped="query=q,cheap_score=c,frontier_score=f")
    assert code == 1
    assert "none of the 300 records is usable" in err


def test_a_log_that_is_one_group_ends_with_1(call, tmp_path):
    lines = [json.dumps({"q": f"query {n}", "y": n % 2, "g": "same"}) for n in range(300)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    code, _, err = run_on(call, tmp_path, mapped="query=q,needs_frontier=y,group=g")
    assert code == 1
    assert re.search("no row for the split (train|test): its 1 groups", err)


def test_a_missing_file_ends_with_2(call, tmp_path):
    code, _, err = run_on(call, tmp_path)
    assert (code, "no such file" in err) == (2, True)


def test_an_unknown_column_ends_with_2_and_names_the_known_ones(call, tmp_path):
    write_log(tmp_path, [0, 1] * 5)
    code, _, err = run_on(call, tmp_path, mapped="query=q,needs_frontier=y,group=meta.team")
    assert code == 2
    assert "group=meta.team" in err
    assert "its columns: q, y" in err


def test_a_truncated_gzip_ends_with_1(call, tmp_path):
    write_log(tmp_path, [0, 1] * 5000)
    packed = gzip.compress((tmp_path / "log.jsonl").read_bytes())
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-1000])
    code, _, err = run_on(call, tmp_path, log=tmp_path / "cut.jsonl.gz")
    assert (code, "truncated gzip" in err) == (1, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "train: {target_frontier_rte: 0.2}",
            "train.target_frontier_rte: unknown key; did you mean",
        ),
        ("trian: {}", "trian: unknown key; did you mean 'train'"),
        ("prepare: {shares: {tset: 0.2}}", "prepare.shares.tset: unknown key; did you mean 'test'"),
        ("train: {target_frontier_rate: 2}", "train.target_frontier_rate = 2: .*less than 1"),
        ("train: {target_frontier_rate: lots}", "train.target_frontier_rate = 'lots'"),
        ("prepare: {shares: {test: 0.9}}", "leave at least 0.1 to training"),
        ("[", "not valid YAML"),
        ("text", "params.yaml holds 'text'; write one section or more"),
        ("- a", r"params.yaml holds \['a'\]; write one section or more"),
        (b"\xff\xfe", "not valid YAML in UTF-8"),
    ],
)
def test_wrong_params_end_with_2_and_the_key(call, tmp_path, content, message):
    write_log(tmp_path, [0, 1])
    encoded = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "params.yaml").write_bytes(encoded)
    code, _, err = run_on(call, tmp_path, "--params", tmp_path / "params.yaml")
    assert code == 2
    assert re.search(message, err)


def test_a_missing_params_file_ends_with_2_and_the_option(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("evaluate", "--out", "run")
    assert (code, "no such params file: params.yaml; name another one with --params" in err) == (
        2,
        True,
    )


def test_a_damaged_artifact_ends_with_1(call, artifact_copy):
    path = artifact_copy / "tokenizer.json"
    path.write_text(path.read_text().replace("the", "teh", 1))
    code, out, err = call("decide", "Hi", "--artifact", artifact_copy)
    assert (code, out) == (1, "")
    assert "changed or damaged after the export" in err


def test_a_folder_without_an_artifact_ends_with_1(call, tmp_path):
    code, _, err = call("decide", "Hi", "--artifact", tmp_path)
    assert (code, "not a querytier artifact" in err) == (1, True)


def test_stages_in_the_wrong_order_end_with_2_and_name_the_one_before(call, tmp_path):
    (tmp_path / "params.yaml").touch()
    for verb, before in {"train": "prepare", "export": "prepare", "evaluate": "prepare"}.items():
        code, _, err = call(verb, "--params", tmp_path / "params.yaml", "--out", tmp_path)
        assert (code, f"run `querytier {before}` first" in err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["rnu"],
        ["decide"],
        ["decide", "Hi"],
        ["run", "x.jsonl"],
        ["score", "x.jsonl", "--artifact", "a", "--out", "x.txt"],
        ["evaluate", "x.jsonl", "--out", "o"],
        ["evaluate", "--artifact", "a", "--out", "o"],
        ["show", "nothing/here"],
    ],
)
def test_a_wrong_call_ends_with_2(call, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*arguments)
    assert code == 2
    assert err
    assert "Traceback" not in err
