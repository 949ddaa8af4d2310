"""Audited decisions: a queue that releases them in order, and the file that remembers them.

Bad answers may be judged sooner, or later, than good ones: if losses counted in the order in which
outcomes arrive, the mean loss would rise and fall for no reason. So an outcome waits for those
of all earlier decisions, each of which holds it up for a limited time only.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from querytier.classifier.threshold import Tier
from querytier.serve.log.log_file import LogFile

__all__ = ["Audit", "AuditJournal", "AuditQueue"]

_log = logging.getLogger(__name__)
_OTHER: dict[Tier, Tier] = {"cheap": "frontier", "frontier": "cheap"}


@dataclass(slots=True)
class Audit:
    """One decision for which the caller asks both tiers.

    Attributes
    ----------
    id : str
    time : float
        Time of the decision, in seconds since 1970.
    tier : {"cheap", "frontier"}
        The tier that was decided.
    domain : str or None
    judgement : dict of str to float
        Any of cheap_score, frontier_score, cheap_cost and frontier_cost that are known.
    """

    id: str
    time: float
    tier: Tier
    domain: str | None = None
    judgement: dict[str, float] = field(default_factory=dict)

    @property
    def extra_tier(self) -> Tier:
        """The tier that answers only for the audit."""
        return _OTHER[self.tier]

    @property
    def extra_cost(self) -> float:
        """Cost of the extra tier's answer; 0 if unknown."""
        return self.judgement.get(f"{self.extra_tier}_cost", 0.0)

    @property
    def scores(self) -> tuple[float, float] | None:
        """Scores of the cheap and the frontier answer; None while one is missing."""
        if not self.judgement.keys() >= {"cheap_score", "frontier_score"}:
            return None
        return self.judgement["cheap_score"], self.judgement["frontier_score"]


class AuditQueue:
    """Releases audits in the order of their decisions, once they have scores or are overdue.

    Parameters
    ----------
    timeout_s : float
        Seconds after its decision for which an audit holds up the later ones.
    """

    def __init__(self, timeout_s: float = math.inf) -> None:
        self._timeout_s = timeout_s
        self._waiting: dict[str, Audit] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, decision_id: str) -> bool:
        return decision_id in self._waiting

    @property
    def extra_cost(self) -> float:
        """Known cost of the extra answers to waiting audits."""
        return math.fsum(audit.extra_cost for audit in self._waiting.values())

    def add(self, audit: Audit) -> None:
        """Add an audit; one with a known id is ignored."""
        self._waiting.setdefault(audit.id, audit)

    def record(self, decision_id: str, judgement: Mapping[str, float]) -> None:
        """Record scores and costs of a waiting audit; any other is too late and ignored."""
        if decision_id in self._waiting:
            self._waiting[decision_id].judgement.update(judgement)

    def release(self, now: float) -> list[Audit]:
        """Remove and return the audits that are ready; those without scores are overdue."""
        ready: list[Audit] = []
        for audit in self._waiting.values():
            # Stop at the first that has to wait: the order of decisions must not depend on scores.
            if audit.scores is None and now < audit.time + self._timeout_s:
                break
            ready.append(audit)
        for audit in ready:
            del self._waiting[audit.id]
        return ready


class AuditJournal:
    """Appends events to a file that processes may share, and reads the events of all of them.

    No error of a file system is raised here: it is counted, and the first is logged. Not
    thread-safe.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    failed : int
        Number of lines that could not be written or read.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._offset = path, LogFile(path), 0
        self.failed = 0

    def write(self, line: Mapping[str, object]) -> None:
        """Append a line; a failure is counted."""
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            self._file.append([text])
            # A lost audit costs some power of the test; a lost withdrawal would break the promise.
            if "withdrawn" in line:
                self._file.sync()
        except OSError:
            self._count_failure("written")

    def new_lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines that any process appended since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return
        except OSError:
            self._count_failure("read")
            return
        # Another process may be in the middle of a line: read it as a whole the next time.
        complete = content[: content.rfind(b"\n") + 1]
        self._offset += len(complete)
        for text in complete.splitlines():
            try:
                line = json.loads(text)
                float(line["time"])
            except (ValueError, TypeError, KeyError):  # cut short, because the machine failed
                self._count_failure("parsed")
            else:
                yield line

    def _count_failure(self, action: str) -> None:
        self.failed += 1
        if self.failed == 1:
            _log.warning("%s: a line could not be %s", self._path, action, exc_info=True)
