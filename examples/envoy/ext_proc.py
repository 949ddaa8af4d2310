"""An external processor for Envoy that sets tier and model of every chat request.

python examples/envoy/ext_proc.py artifacts/model --port 50051

`envoy.yaml` in this folder sends it the bodies of requests, and routes by the header it sets.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as service

from querytier.serve import Router

TIER, REASON = "x-querytier-tier", "x-querytier-reason"
LARGEST_BODY = 32 << 20  # bytes; the same as the buffer in envoy.yaml
REPLACE = HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


class TierProcessor(service.ExternalProcessorServicer):
    """Answers Envoy in one stream per request.

    Parameters
    ----------
    router : Router
    models : mapping of str to str
        The model of each tier. A request that names the cheap model is not decided.
    """

    def __init__(self, router: Router, models: Mapping[str, str]) -> None:
        self.router, self.models = router, models

    async def Process(  # noqa: N802 the protocol's name
        self,
        request_iterator: AsyncIterator[messages.ProcessingRequest],
        context: grpc.aio.ServicerContext,  # noqa: ARG002
    ) -> AsyncIterator[messages.ProcessingResponse]:
        """Pass headers on unchanged, and change the body of chat requests."""
        async for request in request_iterator:
            if request.WhichOneof("request") == "request_headers":
                yield messages.ProcessingResponse(request_headers=messages.HeadersResponse())
            else:
                common = await self._changes(request.request_body.body)
                body = messages.BodyResponse(response=common)
                yield messages.ProcessingResponse(request_body=body)

    async def _changes(self, body: bytes) -> messages.CommonResponse | None:
        """Return the changes to a request; None, which means the default route, if not a chat."""
        try:
            chat = json.loads(body)
            model, query = chat["model"], chat["messages"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        if model == self.models["cheap"]:
            return _routed("cheap", "override", body)
        # In a thread, so that a long query does not delay the others.
        decision = await asyncio.to_thread(self.router.decide, query)
        changed = json.dumps(chat | {"model": self.models[decision.tier]}).encode()
        return _routed(decision.tier, decision.reason, changed)


def _routed(tier: str, reason: str, body: bytes) -> messages.CommonResponse:
    headers = {TIER: tier, REASON: reason, "content-length": str(len(body))}
    return messages.CommonResponse(
        header_mutation=messages.HeaderMutation(
            set_headers=[
                HeaderValueOption(
                    header=HeaderValue(key=name, raw_value=value.encode()), append_action=REPLACE
                )
                for name, value in headers.items()
            ]
        ),
        body_mutation=messages.BodyMutation(body=body),
        clear_route_cache=True,  # otherwise Envoy keeps the route chosen before
    )


async def serve(router: Router, models: Mapping[str, str], address: str) -> None:
    """Serve until cancelled; asynchronous, because each stream stays open until its answer ends."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", LARGEST_BODY)])
    service.add_ExternalProcessorServicer_to_server(TierProcessor(router, models), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact")
    parser.add_argument("--port", type=int, default=50051)
    parser.add_argument("--cheap", default="small-model")
    parser.add_argument("--frontier", default="large-model")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    tier_models = {"cheap": given.cheap, "frontier": given.frontier}
    asyncio.run(serve(Router.load(given.artifact), tier_models, f"127.0.0.1:{given.port}"))
