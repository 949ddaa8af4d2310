"""The tool for agents, over stdin and stdout, called by the SDK's own client."""

import asyncio
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.checkout,
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("mcp"), reason="no mcp here: make gateway-test"),
]

SERVER = Path(__file__).parents[2] / "examples" / "mcp_server.py"


@pytest.fixture(scope="module")
def conversation(decides, queries):
    """Return the client's view: the tools, and the answer to every query."""
    from mcp import Client, StdioServerParameters

    async def talk():
        server = StdioServerParameters(command=sys.executable, args=[str(SERVER), str(decides)])
        async with Client(server) as client:
            tools = (await client.list_tools()).tools
            asked = [*queries.values(), "", "x" * 100_000]
            answers = {
                query: await client.call_tool("classify_query", {"query": query}) for query in asked
            }
            wrong = await client.call_tool("classify_query", {"query": 7})
            return tools, answers, wrong

    return asyncio.run(talk())


def test_the_only_tool_has_a_schema_for_its_answer(conversation):
    (tool,) = conversation[0]
    assert tool.name == "classify_query"
    assert tool.input_schema["required"] == ["query"]
    assert {"tier", "p_frontier", "reason"} <= set(tool.output_schema["required"])
    assert tool.annotations.read_only_hint


def test_the_tool_returns_the_routers_decision(conversation, queries, decides):
    from querytier.serve import Router

    router = Router.load(decides)
    for tier, query in queries.items():
        answer = conversation[1][query]
        assert not answer.is_error
        assert answer.structured_content["tier"] == tier
        assert answer.structured_content.items() <= router.decide(query).to_dict().items()


def test_a_call_without_query_gets_the_fallback_tier(conversation):
    decision = conversation[1][""].structured_content
    assert (decision["tier"], decision["reason"]) == ("frontier", "fallback:empty")


def test_a_wrong_call_is_answered_with_an_error(conversation):
    assert conversation[2].is_error


def test_a_server_without_its_artifact_does_not_start(tmp_path):
    command = [sys.executable, SERVER, tmp_path]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert "is not a querytier artifact" in answer.stderr
