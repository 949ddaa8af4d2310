"""The example of a complete routing service, against stub models."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.checkout,
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("langgraph"), reason="no langgraph here: make gateway-test"),
]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
KEY = "sk-stub-of-the-tests"
KEYS = {"CHEAP_API_KEY": KEY, "FRONTIER_API_KEY": KEY}


@pytest.fixture(scope="module")
def models(free_port, serving):
    """Start the stub models; return their address."""
    port = free_port()
    serving(["python", EXAMPLES / "stub_models.py", "--port", port, "--key", KEY], port)
    return f"http://127.0.0.1:{port}/v1"


@pytest.fixture
def configured(models, decides, tmp_path):
    """Return the example's configuration for these models, with changed settings."""

    def written(**changes):
        text = (EXAMPLES / "langgraph_router.toml").read_text()
        settings = {
            "http://127.0.0.1:8901/v1": models,
            "artifacts/model": decides,
            "runs/decisions.jsonl": tmp_path / "decisions.jsonl",
            "examples/": f"{EXAMPLES}/",
        } | changes
        for old, new in settings.items():
            assert old in text
            text = text.replace(old, str(new))
        (tmp_path / "router.toml").write_text(text)
        return tmp_path / "router.toml"

    return written


@pytest.fixture
def invoke(monkeypatch):
    """Run one query through the graph in this process; return its state, and how to continue."""
    monkeypatch.syspath_prepend(EXAMPLES)
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    import langgraph_router

    def invoked(config, query):
        graph = langgraph_router.service(config).graph()
        thread = {"configurable": {"thread_id": "one"}}
        return graph.invoke({"query": query}, thread), lambda more: graph.invoke(more, thread)

    return invoked


def log_of(config):
    lines = (config.parent / "decisions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_query_is_routed_answered_and_logged(configured, queries, tmp_path):
    config = configured(**{'# decisions = "runs/decisions"': f'decisions = "{tmp_path}/log"'})
    command = [sys.executable, EXAMPLES / "langgraph_router.py", "--config", config]
    asked = [queries["cheap"], queries["frontier"]]
    answer = subprocess.run(
        [*map(str, command), *asked],
        env=os.environ | KEYS,
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, *account = answer.stdout.splitlines()
    assert first.split("\t")[:3] == ["cheap", "classifier", "answered"]
    assert "small-model answers" in first
    assert second.split("\t")[:3] == ["frontier", "classifier", "answered"]
    assert "large-model answers" in second
    assert "end to end, the product of the steps: 1.000; counted: 1.000" in account
    assert account[-1].startswith("cost per query: $0.0000")
    lines = log_of(config)
    assert [line["query"] for line in lines] == asked
    assert [line["tier"] for line in lines] == ["cheap", "frontier"]
    assert all(line["propensity"] == 1 and line["feedback"] is None for line in lines)
    logged, outcomes = (
        [json.loads(line) for line in (tmp_path / "log" / name).read_text().splitlines()]
        for name in ("decisions.jsonl", "outcomes.jsonl")
    )
    assert [line["tier"] for line in logged] == ["cheap", "frontier"]
    told = [(line["id"], line["cost"]) for line in lines]
    assert [(line["id"], line["cost"]) for line in outcomes] == told


def test_a_cheap_model_that_is_down_is_replaced_by_the_frontier_model(configured, invoke, queries):
    config = configured(**{"small-model": "broken-model"})
    state, _ = invoke(config, queries["cheap"])
    assert "large-model answers" in state["reply"]
    assert ("call", False) in state["steps"]
    (line,) = log_of(config)
    assert (line["decided"]["tier"], line["tier"], line["propensity"]) == (
        "cheap",
        "frontier",
        None,
    )


def test_an_unsure_draft_waits_for_a_persons_decision(configured, invoke, queries):
    from langgraph.types import Command

    config = configured(**{"gate = 0.85": "gate = 0.99"})
    state, go_on = invoke(config, queries["cheap"])
    assert state["__interrupt__"][0].value["query"] == queries["cheap"]
    assert ("gate", False) in state["steps"]
    assert go_on(Command(resume="It left us on Monday."))["reply"] == "It left us on Monday."
    (line,) = log_of(config)
    assert line["feedback"] == "human_takeover"


def test_a_person_answers_if_no_model_does(configured, invoke, queries):
    config = configured(**{"small-model": "broken-model", "large-model": "broken-model"})
    state, _ = invoke(config, queries["cheap"])
    assert state["__interrupt__"]
    assert state["cost"] == 0


def test_a_wrong_key_counts_as_no_answer(configured, invoke, queries, monkeypatch):
    monkeypatch.setenv("CHEAP_API_KEY", "sk-other")
    state, _ = invoke(configured(), queries["cheap"])
    assert state["answered_by"] == "frontier"


def test_retrieved_passages_reach_the_model(configured, invoke):
    query = "Where does the link in the confirmation lead?"
    state, _ = invoke(configured(), query)
    assert state["passage"].startswith("Orders ship")
    assert state["draft"]["tokens_in"] > len(query.split())


def test_a_failed_lookup_costs_only_the_passage(configured, invoke, queries):
    config = configured(**{"langgraph_documents.txt": "missing.txt"})
    state, _ = invoke(config, queries["cheap"])
    assert state["reply"]
    assert ("retrieve", False) in state["steps"]
