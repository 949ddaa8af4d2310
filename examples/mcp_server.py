"""A tool of the Model Context Protocol, over stdin and stdout: which tier answers a query.

An agent's host starts it with the artifact's folder, as in its settings::

    "querytier": {"command": "python", "args": ["examples/mcp_server.py", "artifacts/model"]}
"""

import sys
from typing import TypedDict

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from querytier.serve import Router


class Classification(TypedDict):
    """What the tool answers; its schema is what the agent's model is shown."""

    tier: str
    p_frontier: float | None
    decision_score: float | None
    threshold: float
    reason: str
    model_version: str


def served(router: Router) -> MCPServer:
    """Return a server with the one tool, over a loaded artifact."""
    server = MCPServer("querytier")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
    def classify_query(query: str) -> Classification:
        """Say whether a query needs the frontier model or the cheap one will do.

        `tier` is "cheap" or "frontier"; `p_frontier` the calibrated probability that only the
        frontier model answers it well; `reason` says "classifier", or why a fallback stands there.
        """
        decision = router.decide(query).to_dict()
        return Classification(**{name: decision[name] for name in Classification.__annotations__})

    return server


if __name__ == "__main__":
    served(Router.load(sys.argv[1])).run()
