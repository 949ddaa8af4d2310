"""The plugin for LiteLLM, without LiteLLM; tests/gateways runs it inside the proxy."""

import asyncio
import copy
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from querytier.data.formats.reading import read_records
from querytier.errors import ArtifactError, UsageError
from querytier.serve import Router
from querytier.serve.plugins import litellm

ARTIFACT = Path(__file__).parents[2] / "fixtures" / "artifacts" / "format-2"


@pytest.fixture
def plugin(monkeypatch):
    monkeypatch.setenv(litellm.ARTIFACT_VARIABLE, str(ARTIFACT))
    return importlib.reload(litellm).classifier


def classified(plugin, messages):
    return asyncio.run(plugin.classify(SimpleNamespace(structured_messages=messages)))


@pytest.mark.parametrize("query", ["Hi", "?", "Where is my order?"])
def test_the_plugin_returns_the_routers_tier(plugin, query):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": query}]
    assert classified(plugin, messages) == Router.load(ARTIFACT).decide(query).tier


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": None}], ["no message"]])
def test_queries_that_cannot_be_decided_get_the_fallback_tier(plugin, messages):
    assert classified(plugin, messages) == "frontier"


def test_decisions_are_logged_if_a_log_is_named(plugin, monkeypatch, tmp_path):
    monkeypatch.setenv(litellm.LOG_VARIABLE, str(tmp_path / "log"))
    logging = importlib.reload(litellm).classifier
    tier = classified(logging, [{"role": "user", "content": "Where is my order?"}])
    logging.log.close()
    (record,) = read_records(tmp_path / "log" / "decisions.jsonl")
    assert (record.fields["tier"], record.fields["query"]) == (tier, "Where is my order?")
    assert plugin.log is None


def test_the_artifact_is_loaded_once_and_survives_a_copy(plugin):
    assert litellm.classifier is plugin
    assert copy.deepcopy({"plugin": plugin})["plugin"] is plugin


def test_a_proxy_needs_an_artifact_to_start(monkeypatch, tmp_path):
    monkeypatch.delenv(litellm.ARTIFACT_VARIABLE, raising=False)
    fresh = importlib.reload(litellm)
    with pytest.raises(UsageError, match="QUERYTIER_ARTIFACT is not set"):
        _ = fresh.classifier
    monkeypatch.setenv(litellm.ARTIFACT_VARIABLE, str(tmp_path))
    with pytest.raises(ArtifactError, match="is not a querytier artifact"):
        _ = fresh.classifier


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="has no attribute 'classify'"):
        _ = litellm.classify


def test_the_plugin_imports_neither_litellm_nor_onnxruntime():
    program = (
        "import sys, querytier.serve.plugins.litellm\n"
        "print([name for name in ('litellm', 'onnxruntime') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
