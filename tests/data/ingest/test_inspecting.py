"""The output of `querytier data inspect`."""

import json
import sys
from pathlib import Path

import pytest

from querytier.cli.main import main
from querytier.data.column_map import parse_paths
from querytier.data.ingest.inspecting import inspect_log
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.data.model_pair import ModelPair


@pytest.fixture
def log(tmp_path):
    rows = [
        {"q": "one", "s": {"small": 1.0, "large": 1}, "team": "a"},
        {"q": "two", "s": {"small": 0.0, "large": 1}},
        {"q": "three", "s": {"small": 0, "large": 0}},
        {"q": "four", "s": {"small": 1, "large": 0}},
        {"q": "five", "s": {"small": None}},
        {"q": "six", "s": {"small": "?", "large": 1}},
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{"]))
    return path


MAP = "query=q,cheap_score=s.small,frontier_score=s.large"


def test_fields_rules_and_shares_are_counted(log):
    found = inspect_log(LogSource(log, paths=parse_paths(MAP)), LabelRules())
    assert found.rows == 7
    assert found.bad == {"not JSON": 1, "cheap_score is not a finite number": 1}
    assert {count.field: count.present for count in found.fields} == {
        "query": 6,
        "cheap_score": 5,
        "frontier_score": 5,
    }
    assert found.unmapped == ["team"]
    rules = {rule.rule: (rule.missing, rule.usable) for rule in found.rules}
    assert rules["explicit"] == (["needs_frontier"], 0)
    assert rules["cheap_fails_frontier_succeeds"][0] == []
    shares = (found.cheap_ok, found.frontier_ok, found.needs_frontier, found.both_fail)
    assert shares == (0.5, 0.5, 0.25, 0.25)
    assert found.cheap_wins == 0.25
    assert len(found.first) == 6


def inspected(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["querytier", "data", "inspect", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    return capsys.readouterr().out


def test_json_is_one_object_with_the_shares(log, monkeypatch, capsys):
    out = inspected(monkeypatch, capsys, log, "--map", MAP, "--json")
    content = json.loads(out)
    assert content["rows"] == 7
    assert content["needs_frontier"] == 0.25


@pytest.mark.parametrize(
    ("mapped", "step"),
    [
        (
            "query=q",
            "add needs_frontier=COLUMN, or cheap_grades=COLUMN and frontier_grades=COLUMN, or",
        ),
        (MAP, "label more records: 4 are usable, 200 are needed"),
    ],
)
def test_it_ends_with_what_to_do_next(log, monkeypatch, capsys, mapped, step):
    assert f"next: {step}" in inspected(monkeypatch, capsys, log, "--map", mapped)


def test_a_log_that_can_be_learned_from_gets_the_command(tmp_path, monkeypatch, capsys):
    path = tmp_path / "log.csv"
    path.write_text("query,needs_frontier\n" + "".join(f"q{n},{n % 2}\n" for n in range(300)))
    out = inspected(monkeypatch, capsys, path)
    assert f"next: querytier run {path} --out runs/first" in out


def test_a_log_with_unknown_columns_lists_them(tmp_path, monkeypatch, capsys):
    path = tmp_path / "log.jsonl"
    path.write_text('{"prompt": "a", "meta": {"team": "b"}}\n')
    out = inspected(monkeypatch, capsys, path)
    assert "columns without a field: prompt, meta.team" in out
    assert "--map query=COLUMN" in out


FORMATS = Path(__file__).parents[2] / "fixtures" / "formats"


@pytest.mark.parametrize(
    "name",
    ["otel", "litellm", "litellm_spend", "langfuse", "helicone", "openinference", "llmrouter"],
)
def test_known_formats_are_recognised_by_their_first_record(name):
    models = ModelPair("small-1", "large-2")
    found = inspect_log(LogSource(FORMATS / f"{name}.jsonl", pair=models), LabelRules())
    assert found.format == {"openinference": "otel"}.get(name, name)
    fields = {count.field: count.present for count in found.fields}
    assert fields["query"] >= 2
    assert found.rows > fields["query"]


def test_a_table_of_models_needs_the_pair_and_then_has_scores_and_costs(monkeypatch, capsys):
    table = FORMATS / "routerbench.csv"
    pair = ["--cheap", "small-1", "--frontier", "large-2"]
    out = inspected(monkeypatch, capsys, table, *pair, "--json")
    content = json.loads(out)
    assert content["format"] == "routerbench"
    assert {field["field"] for field in content["fields"]} >= {"cheap_score", "frontier_cost"}
    assert content["needs_frontier"] is not None
    monkeypatch.setattr(sys, "argv", ["querytier", "data", "inspect", str(table)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert "no pair of models is named" in capsys.readouterr().err
