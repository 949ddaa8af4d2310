"""`querytier drift` on small logs, with a static encoder."""

import json
from pathlib import Path

import numpy as np
import pytest

ARTIFACT = Path(__file__).parents[1] / "fixtures" / "artifacts" / "format-2"
THINGS = ["bakery", "ferry", "archive", "greenhouse", "sensor", "choir", "tunnel", "lantern"]


def logged(path, queries, *, start=0):
    """Write a log of queries, a minute apart."""
    lines = [
        {"id": f"n-{n}", "query": query, "time": 1_935_900_000 + 60 * (start + n)}
        for n, query in enumerate(queries)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def chat(seed, count=60):
    random = np.random.default_rng(seed)
    for n in range(count):
        first, second, third = random.choice(THINGS, 3)
        yield f"Tell me about {first} {n * 7 + seed} beside a {second}, or the {third}?"


def proofs(count=60):
    for n in range(count):
        yield f"Derive \\int_0^{n} x^{n + 2} dx = \\frac{{{n}}}{{{n + 3}}}; {{ f({n}) != g[{n}]; }}"


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("drift: {fewest_groups: 20, permutations: 1999}\n")
    return path


def test_the_verb_compares_two_logs(call, params, tmp_path):
    old, new = logged(tmp_path / "old.jsonl", chat(1)), logged(tmp_path / "new.jsonl", proofs())
    same, out = logged(tmp_path / "same.jsonl", chat(2)), tmp_path / "out"
    options = ("--artifact", ARTIFACT, "--out", out, "--params", params)
    code, printed, _ = call("drift", "--reference", old, "--recent", same, *options)
    assert code == 0
    assert "no drift found (false alarm rate 1%)" in printed
    code, printed, _ = call("drift", "--reference", old, "--recent", new, *options)
    assert code == 1
    assert "drifted: " in printed
    record = json.loads((out / "drift.json").read_text())
    assert record["drifted"]
    assert record["headline"] in printed
    page = (out / "drift.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_verb_compares_a_run_with_new_logs(call, run_dir, params, tmp_path):
    new = logged(tmp_path / "new.jsonl", proofs())
    options = ("--out", tmp_path / "out", "--params", params, "--json")
    code, printed, _ = call("drift", run_dir, "--logs", new, *options)
    record = json.loads(printed)
    assert code == 1
    assert record["verdict"] == "drifted"
    assert record["windows"]["recent"]["labelled"] == 0
    assert record["windows"]["recent"]["from"].startswith("2031-")


def test_rules_that_labelled_no_reference_row_are_not_used(call, params, tmp_path):
    scores = {"cheap_score": 0.0, "frontier_score": 1.0}
    feedback = {"tier": "cheap", "feedback": "thumbs_down"}
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    rows = [{"id": f"n-{n}", "query": query} for n, query in enumerate(chat(1))]
    old.write_text("".join(json.dumps(row | scores) + "\n" for row in rows))
    told = [row | (scores if n % 2 else feedback) for n, row in enumerate(rows)]
    new.write_text("".join(json.dumps(row) + "\n" for row in told))
    options = ("--artifact", ARTIFACT, "--out", tmp_path / "out", "--params", params, "--json")
    windows = json.loads(call("drift", "--reference", old, "--recent", new, *options)[1])["windows"]
    assert (windows["reference"]["labelled"], windows["recent"]["labelled"]) == (60, 30)
    windows = json.loads(call("drift", "--reference", new, "--recent", old, *options)[1])["windows"]
    assert (windows["reference"]["labelled"], windows["recent"]["labelled"]) == (60, 60)


def test_the_verb_reports_too_few_rows(call, tmp_path):
    log = logged(tmp_path / "log.jsonl", chat(1))
    options = ("--artifact", ARTIFACT, "--out", tmp_path / "out")
    spans = ("--reference-until", "1935900000", "--since", "1935900600")
    code, printed, errors = call("drift", "--reference", log, "--recent", log, *options, *spans)
    assert code == 0, errors
    assert "too few rows to compare" in printed
    assert "reference: 0 rows" in printed
    assert "recent: 50 rows" in printed


def test_large_windows_are_drawn_by_groups(call, tmp_path):
    log, params = logged(tmp_path / "log.jsonl", chat(1, 300)), tmp_path / "params.yaml"
    params.write_text("drift: {most_rows: 150, fewest_groups: 20, permutations: 1999}\n")
    options = ("--artifact", ARTIFACT, "--out", tmp_path / "out", "--params", params)
    code, printed, _ = call("drift", "--reference", log, "--recent", log, *options)
    assert code == 0
    assert "150 rows, drawn by whole groups from 300 in 150 groups" in printed
