"""How often the same certification rows were asked for a promise."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Attempt", "Attempts"]

_FILE = "certifications.jsonl"
# All that an answer depends on.
_QUESTION = ("data", "model_version", "risk", "alpha", "delta", "slices", "seed")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A question to certification rows, among all that they were asked.

    Attributes
    ----------
    number : int
        Different questions so far, this one included.
    any_wrong : float
        Largest chance that any promise in answer to them is wrong, in (0, 1]: the sum of their
        deltas (union bound).
    """

    number: int
    any_wrong: float

    def sentence(self) -> str:
        """Return what it means for whoever picks one of the answers."""
        return (
            f"attempt {self.number} on these certification rows: a promise holds for one attempt; "
            f"that any of the {self.number} is wrong has a chance of up to {self.any_wrong:.2g}"
        )


@dataclass(frozen=True)
class Attempts:
    """The record of certifications in a run's folder, `certifications.jsonl`.

    Each attempt may break its promise with probability delta, so that of several, the one liked
    best may break it with up to the sum of theirs. Asking the same question twice gives the same
    answer, and is one attempt.

    Attributes
    ----------
    out : Path
        What `--out` of the run was.
    """

    out: Path

    def recorded(self, question: Mapping[str, Any], answer: Mapping[str, Any]) -> Attempt:
        """Record a certification, and return which attempt on its rows it is.

        Parameters
        ----------
        question : mapping
            `data`, the fingerprint of the rows, `model_version`, `risk`, `alpha`, `delta`,
            `slices` and `seed`.
        answer : mapping
            What came of it, for people.
        """
        path = self.out / _FILE
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**question, **answer}, sort_keys=True) + "\n")
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        deltas = {_key(line): line["delta"] for line in lines if line["data"] == question["data"]}
        return Attempt(len(deltas), min(1.0, sum(deltas.values())))


def _key(line: Mapping[str, Any]) -> str:
    return json.dumps([line[name] for name in _QUESTION])
