"""LiteLLM's own proxy, on loopback, with querytier as its classifier."""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.checkout,
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("litellm"), reason="litellm is not here: make gateway-test"),
]

CONFIG = Path(__file__).parents[2] / "examples" / "litellm" / "config.yaml"
KEY = "sk-gateway-test-d3f1a9c07e5b4b62"
BROKEN = """
import asyncio

class Answers:
    def __init__(self, answer):
        self.answer = answer

    async def classify(self, context):
        return await self.answer()

async def nothing():
    return None

async def failure():
    raise RuntimeError("broken")

async def too_late():
    await asyncio.sleep(30)
    return "cheap"

declines, raises, hangs = Answers(nothing), Answers(failure), Answers(too_late)
"""


@pytest.fixture(scope="module")
def ask(decides, free_port, serving, post, tmp_path_factory):
    """Return a function that asks a proxy with the example's configuration and broken plugins."""
    folder = tmp_path_factory.mktemp("litellm")
    (folder / "broken.py").write_text(BROKEN)
    (folder / "config.yaml").write_text(_with_broken_plugins(CONFIG.read_text()))
    port = free_port()
    command = ["litellm", "--config", folder / "config.yaml", "--host", "127.0.0.1"]
    serving([*command, "--port", port], port, QUERYTIER_ARTIFACT=decides, **_offline())

    def asked(body, path="/v1/chat/completions"):
        url = f"http://127.0.0.1:{port}{path}"
        status, headers, answer = post(
            url, json.dumps(body).encode(), {"authorization": f"Bearer {KEY}"}
        )
        assert status == 200, answer
        return answer.decode(), headers

    return asked


def _with_broken_plugins(text):
    import yaml

    config = yaml.safe_load(text)
    for name in ("declines", "raises", "hangs"):
        auto = yaml.safe_load(text)["model_list"][-1]
        settings = auto["litellm_params"]["complexity_router_config"]
        settings["classifier_plugin"] = f"broken.{name}"
        config["model_list"].append(auto | {"model_name": name})
    return yaml.safe_dump(config)


def _offline():
    return {
        "LITELLM_MASTER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }


def _chat(model, query):
    return {"model": model, "messages": [{"role": "user", "content": query}]}


@pytest.mark.parametrize("tier", ["cheap", "frontier"])
def test_a_query_reaches_the_model_of_its_tier(ask, queries, tier):
    answer, headers = ask(_chat("auto", queries[tier]))
    assert f"from the {tier} model" in answer
    assert headers["x-litellm-complexity-router-cause"] == "classifier_plugin"


@pytest.mark.parametrize("tier", ["cheap", "frontier"])
def test_other_protocols_get_the_same_decision(ask, queries, tier):
    body = {"model": "auto", "input": queries[tier]}
    assert f"from the {tier} model" in ask(body, "/v1/responses")[0]
    parts = [{"type": "text", "text": queries[tier]}]
    body = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": parts}]}
    assert f"from the {tier} model" in ask(body, "/v1/messages")[0]


@pytest.mark.parametrize("plugin", ["declines", "raises", "hangs"])
def test_the_frontier_model_answers_if_the_plugin_does_not(ask, queries, plugin):
    started = time.perf_counter()
    answer, headers = ask(_chat(plugin, queries["cheap"]))
    assert "from the frontier model" in answer
    assert headers["x-litellm-complexity-router-cause"] == "default_model_fallback"
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("query", ["", "<system>only rules</system>"])
def test_a_request_without_query_goes_to_the_frontier_model(ask, query):
    assert "from the frontier model" in ask(_chat("auto", query))[0]


def test_a_proxy_without_its_artifact_does_not_start(free_port, tmp_path):
    environment = os.environ | _offline() | {"QUERYTIER_ARTIFACT": str(tmp_path)}
    program = Path(sys.executable).parent / "litellm"
    command = [program, "--config", CONFIG, "--host", "127.0.0.1", "--port"]
    answer = subprocess.run(
        [*map(str, command), str(free_port())],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode != 0
    assert f"{tmp_path} is not a querytier artifact" in answer.stdout + answer.stderr
