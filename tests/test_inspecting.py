"""What `querytier data inspect` says of a log."""

import json
import sys

import pytest

from querytier.cli import main
from querytier.data.columns import ColumnMap
from querytier.data.inspecting import inspect_log


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
    found = inspect_log(log, ColumnMap.parse(MAP), 0.5)
    assert found.rows == 7
    assert found.bad == {"not JSON": 1, "cheap_score is not a number": 1}
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
        ("query=q", "add needs_frontier=COLUMN or cheap_score=COLUMN and frontier_score=COLUMN"),
        (MAP, "label more records: 5 are usable, 200 are needed"),
    ],
)
def test_it_ends_with_what_to_do_next(log, monkeypatch, capsys, mapped, step):
    assert f"next: {step}" in inspected(monkeypatch, capsys, log, "--map", mapped)


def test_a_log_that_can_be_learned_from_gets_the_command(tmp_path, monkeypatch, capsys):
    path = tmp_path / "log.csv"
    path.write_text("query,needs_frontier\n" + "".join(f"q{n},{n % 2}\n" for n in range(300)))
    out = inspected(monkeypatch, capsys, path)
    assert f"next: querytier run {path} --out runs/first" in out


def test_a_log_whose_columns_are_unknown_says_which_there_are(tmp_path, monkeypatch, capsys):
    path = tmp_path / "log.jsonl"
    path.write_text('{"prompt": "a", "meta": {"team": "b"}}\n')
    out = inspected(monkeypatch, capsys, path)
    assert "columns without a field: prompt, meta.team" in out
    assert "--map query=COLUMN" in out
