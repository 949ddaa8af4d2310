"""Stub models: the OpenAI chat-completions protocol on loopback, to try a router offline.

python examples/stub_models.py --port 8901 --key sk-stub

Every model name is accepted. The token probabilities of `small-model` are low for queries of more
than twelve words; `broken-model` answers 503.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SURE, UNSURE = 0.95, 0.6
SURE_UP_TO = {"small-model": 12}  # words
ELSE_SURE_UP_TO = 200


class ChatCompletions(BaseHTTPRequestHandler):
    """Answers `POST /v1/chat/completions`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each answer waits 40 ms for an acknowledgement
    server: "StubModels"

    def do_POST(self) -> None:
        """Answer a request on any path: gateways rewrite paths."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["authorization"] != f"Bearer {self.server.key}":
            return self._reply(401, {"error": {"message": "wrong key"}})
        try:
            request = json.loads(body)
            answer = completion(self.server.name, request)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            return self._reply(400, {"error": {"message": f"not a chat request: {error!r}"}})
        if request["model"] == "broken-model":
            return self._reply(503, {"error": {"message": "overloaded"}})
        time.sleep(self.server.delay)
        return self._reply(200, answer)

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _reply(self, status: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class StubModels(ThreadingHTTPServer):
    """A server on loopback.

    Parameters
    ----------
    port : int
    key : str
        The bearer token that clients must send.
    name : str
        The first word of each answer.
    delay : float
        Seconds before each answer.
    """

    daemon_threads = True

    def __init__(self, port: int, key: str, name: str, delay: float) -> None:
        super().__init__(("127.0.0.1", port), ChatCompletions)
        self.key, self.name, self.delay = key, name, delay


def completion(name: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to a chat request, with usage and token probabilities."""
    query = str(request["messages"][-1]["content"])
    words = f"{name}: {request['model']} answers {query[:60]!r}".split(" ")
    sure = len(query.split()) <= SURE_UP_TO.get(request["model"], ELSE_SURE_UP_TO)
    logprob = math.log(SURE if sure else UNSURE)
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": " ".join(words)},
        "logprobs": {"content": [{"token": word, "logprob": logprob} for word in words]},
    }
    prompt_tokens = sum(len(str(message["content"]).split()) for message in request["messages"])
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(words)}
    return {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [choice],
        "usage": usage | {"total_tokens": prompt_tokens + len(words)},
    }


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8901)
    parser.add_argument("--key", default="sk-stub")
    parser.add_argument("--name", default="stub")
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    with StubModels(given.port, given.key, given.name, given.delay) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
