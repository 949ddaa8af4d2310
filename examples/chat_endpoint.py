"""The seam between a router and whoever sells models: the OpenAI chat-completions protocol."""

import json
import math
import os
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Answer", "Endpoint", "UnreachableError"]


class UnreachableError(Exception):
    """An endpoint gave no answer in time, or none that can be read."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes
    ----------
    text : str
    confidence : float
        Geometric mean of the probabilities of its tokens, in [0, 1]; 0 where the provider tells
        none. It is no probability of being right: calibrate the gate on your own outcomes.
    tokens_in, tokens_out : int
    """

    text: str
    confidence: float
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class Endpoint:
    """Where a tier's model is, and what it costs.

    Attributes
    ----------
    base_url : str
        Up to and including the version: `https://.../v1`.
    model : str
    key_variable : str
        The environment variable that holds the key.
    per_million_in, per_million_out : float
        Dollars.
    timeout_s : float
    """

    base_url: str
    model: str
    key_variable: str
    per_million_in: float
    per_million_out: float
    timeout_s: float = 30.0

    def ask(self, messages: Sequence[Mapping[str, str]]) -> Answer:
        """Return the model's answer.

        Raises
        ------
        UnreachableError
            If there is no answer in time, or none that can be read.
        """
        body = {"model": self.model, "messages": list(messages), "logprobs": True}
        try:
            with urllib.request.urlopen(self._request(body), timeout=self.timeout_s) as reply:  # noqa: S310 the URL is configuration
                return _answer(json.load(reply))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UnreachableError(f"{self.model} at {self.base_url}: {error}") from error

    def cost(self, answer: Answer) -> float:
        """Return what an answer of these tokens costs here, in dollars."""
        paid_in = answer.tokens_in * self.per_million_in
        return (paid_in + answer.tokens_out * self.per_million_out) / 1e6

    def _request(self, body: Mapping[str, Any]) -> urllib.request.Request:
        headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {os.environ.get(self.key_variable, '')}",
        }
        url = f"{self.base_url}/chat/completions"
        return urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310


def _answer(reply: Mapping[str, Any]) -> Answer:
    choice, usage = reply["choices"][0], reply["usage"]
    return Answer(
        text=choice["message"]["content"],
        confidence=_confidence((choice.get("logprobs") or {}).get("content") or []),
        tokens_in=usage["prompt_tokens"],
        tokens_out=usage["completion_tokens"],
    )


def _confidence(tokens: Sequence[Mapping[str, Any]]) -> float:
    if not tokens:
        return 0.0
    return math.exp(sum(token["logprob"] for token in tokens) / len(tokens))
