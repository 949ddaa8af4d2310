"""A client for models behind the OpenAI chat-completions protocol."""

import json
import math
import os
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Answer", "Endpoint", "UnreachableError"]


class UnreachableError(Exception):
    """Raised if an endpoint does not answer in time, or its answer cannot be parsed."""


@dataclass(frozen=True)
class Answer:
    """The answer of a model.

    Attributes
    ----------
    text : str
    confidence : float
        Geometric mean of the token probabilities, in [0, 1]; 0 if the provider does not return
        them. It is not the probability of being right: calibrate the gate on your own outcomes.
    tokens_in, tokens_out : int
    """

    text: str
    confidence: float
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class Endpoint:
    """The address and the prices of a tier's model.

    Attributes
    ----------
    base_url : str
        Up to and including the version: `https://.../v1`.
    model : str
    key_variable : str
        Name of the environment variable with the key.
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
            If there is no answer in time, or it cannot be parsed.
        """
        body = {"model": self.model, "messages": list(messages), "logprobs": True}
        try:
            with urllib.request.urlopen(self._request(body), timeout=self.timeout_s) as reply:  # noqa: S310 the URL is configuration
                return _answer(json.load(reply))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UnreachableError(f"{self.model} at {self.base_url}: {error}") from error

    def cost(self, answer: Answer) -> float:
        """Return the cost of an answer in dollars, by its numbers of tokens."""
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
