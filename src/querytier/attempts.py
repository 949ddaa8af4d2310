"""How often the same certification rows were asked for a promise."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Attempts"]

_FILE = "certifications.jsonl"


@dataclass(frozen=True)
class Attempts:
    """The record of certifications in a run's folder.

    Each attempt may break its promise with probability delta: who asks the same rows k times, and
    keeps what he likes best, breaks it with up to k times delta. Asking the same question twice
    gives the same answer, and is one attempt.

    Attributes
    ----------
    out : Path
        What `--out` of the run was.
    """

    out: Path

    def counted(self, fingerprint: str, question: Mapping[str, Any]) -> int:
        """Record a question; return how many different ones these data were asked so far.

        Parameters
        ----------
        fingerprint : str
            Of the data.
        question : mapping
            All that the answer depends on beside them.
        """
        line = json.dumps({"data": fingerprint, **question}, sort_keys=True)
        path = self.out / _FILE
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        if line not in lines:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
            lines.append(line)
        return sum(json.loads(one)["data"] == fingerprint for one in set(lines))
