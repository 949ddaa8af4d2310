"""The lower bound of the service: an echo with the same server and settings.

python benchmarks/serving_echo.py
"""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from querytier.serve.http import server as serving
from querytier.serve.http.access import Activity
from querytier.serve.http.settings import Limits, ServiceSettings


@dataclass
class Nothing:
    """The attributes of a service that the server uses."""

    activity: Activity = field(default_factory=Activity)
    settings: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(limits=Limits()))
    manifest: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(model_version="none"))


async def echo(request: Request) -> Response:
    """Answer with the body of the request."""
    return Response(await request.body(), media_type="application/json")


def application(_: object) -> Starlette:
    """Return an application that only echoes."""
    paths = ("/v1/decide", "/v1/decide/batch")
    app = Starlette(routes=[Route(path, echo, methods=["POST"]) for path in paths])
    app.state.service = Nothing()
    return app


if __name__ == "__main__":
    serving.application = application  # everything else is the same as in `querytier serve`
    serving.serve(
        ServiceSettings(Path()),
        serving.Listening(port=0, log_level="warning"),
        lambda url, _: print(f"echoes at {url}", flush=True),
    )
