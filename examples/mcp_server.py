"""A Model Context Protocol server over stdin and stdout; its tool decides which tier should answer.

The agent's host starts it with the folder of an artifact, for example in its settings::

    "querytier": {"command": "python", "args": ["examples/mcp_server.py", "artifacts/model"]}
"""

import sys
from typing import TypedDict

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from querytier.serve import Router


class Classification(TypedDict):
    """The tool's answer; the agent's model sees its schema."""

    tier: str
    p_frontier: float | None
    decision_score: float | None
    threshold: float
    reason: str
    model_version: str


def served(router: Router) -> MCPServer:
    """Return a server with one tool that uses a loaded artifact."""
    server = MCPServer("querytier")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
    def classify_query(query: str) -> Classification:
        """Decide whether a query needs the frontier model or the cheap one will do.

        `tier` is "cheap" or "frontier"; `p_frontier` is the calibrated probability that only the
        frontier model answers well; `reason` is "classifier", or the reason for a fallback.
        """
        decision = router.decide(query).to_dict()
        return Classification(**{name: decision[name] for name in Classification.__annotations__})

    return server


if __name__ == "__main__":
    served(Router.load(sys.argv[1])).run()
