"""The decision log: each decision when it is made, the outcome of its answer when it is known.

::

    LOGS/decisions.jsonl                        what is written now
    LOGS/decisions-20310507T060000Z-1.jsonl     closed, by size or age
    LOGS/outcomes.jsonl                         by the decisions' ids
    LOGS/shadow.jsonl                           what a challenger would have decided, by ids

These are what `prepare` reads, without a column map::

    querytier prepare LOGS/decisions*.jsonl --scores LOGS/outcomes.jsonl --out runs/next

(`querytier.data.formats.decision_log` says how they are joined.) A decision is a JSON
object a line: `id`,
`time`, `tier`, `propensity` (of the tier that was taken), `policy` (the model version), `group`
(the conversation), `domain` and `tenant` where there are any, `reason`, `p_frontier`, `gain`,
`decision_score`, `threshold`, `latency_ms`, `audit`, `audit_propensity`, and `query` or
`query_sha256`. An outcome is `id`, `time`, and what
`querytier.data.formats.decision_log.judgement_of` reads.
What a challenger would have decided is nothing that `prepare` reads.
"""

import hashlib
import hmac
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Self
from uuid import uuid4

from querytier.data.formats.decision_log import judgement_of
from querytier.data.ingest.redaction import redact
from querytier.data.text_view import last_user_text
from querytier.errors import UsageError
from querytier.serve.decision import Decision, Query
from querytier.serve.log.log_file import LogFile, utc_text
from querytier.serve.log.settings import LogSettings
from querytier.serve.log.write_behind import WriteBehind

__all__ = ["DECISIONS", "OUTCOMES", "SHADOW", "DecisionLog", "LogSettings"]

DECISIONS, OUTCOMES, SHADOW = "decisions.jsonl", "outcomes.jsonl", "shadow.jsonl"


class DecisionLog:
    """Writes decisions and outcomes to a folder; threads may share it, and processes the folder.

    A context manager: at its end, as at that of the interpreter, all is written. SIGTERM ends
    Python without its end: have the handler raise SystemExit, or tell the service to close the log
    (not close it in the handler, which may have interrupted `append`). `LogSettings` says what is
    lost otherwise.

    Parameters
    ----------
    folder : Path
        On a local file system; created where it is missing.
    settings : LogSettings
    clock : callable
        Tells the seconds since 1970.

    Raises
    ------
    UsageError
        If the folder cannot be made.
    MissingExtraError
        If the text is to be redacted, and datafog is not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: LogSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._clock = settings or LogSettings(), clock
        if self._settings.text == "redacted":
            redact("")
        kept = self._settings
        self._decisions, self._shadow = (
            LogFile(
                folder / name,
                max_bytes=kept.max_bytes,
                max_age_s=kept.max_age_s,
                keep=kept.keep,
                clock=clock,
            )
            for name in (DECISIONS, SHADOW)
        )
        self._outcomes = LogFile(folder / OUTCOMES, clock=clock)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"no decisions can be logged in {folder}: {error}") from error
        self._writer = WriteBehind(self._settings, [self._decisions, self._outcomes, self._shadow])
        self._close = weakref.finalize(self, self._writer.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def written(self) -> int:
        """Lines in the files, of decisions and outcomes."""
        return self._writer.written

    @property
    def dropped(self) -> int:
        """Lines that are lost: the buffer was full, or the log closed."""
        return self._writer.dropped

    @property
    def failed(self) -> int:
        """Attempts to write that failed; their lines wait in the buffer."""
        return self._writer.failed

    def append(
        self,
        decision: Decision,
        query: Query,
        *,
        id: str | None = None,  # noqa: A002 the field's name
        conversation: str | None = None,
        domain: str | None = None,
        tenant: str | None = None,
    ) -> str:
        """Have a decision written, later; never raises.

        Parameters
        ----------
        decision : Decision
        query : str or sequence of mappings
            What was decided; of chat messages, the last user turn is written.
        id : str, optional
            By which its outcome is told; no other decision may have it.
        conversation, domain, tenant : str, optional
            Those of the query. `prepare` takes the tenant for the example's `source`.

        Returns
        -------
        str
            The id: the one given, or a new one.
        """
        own_id = id or uuid4().hex
        place = {"id": own_id, "group": conversation, "domain": domain, "tenant": tenant}
        now, kept = self._clock(), self._settings
        self._writer.put(
            self._decisions, partial(_decision_fields, decision, query, place, now, kept)
        )
        return own_id

    def append_outcome(
        self,
        id: str,  # noqa: A002 the field's name
        *,
        outcome: float | None = None,
        feedback: str | None = None,
        cost: float | None = None,
        cheap_score: float | None = None,
        frontier_score: float | None = None,
        cheap_cost: float | None = None,
        frontier_cost: float | None = None,
    ) -> None:
        """Have what became of a decision's answer written, later; it may be said bit by bit.

        Parameters
        ----------
        id : str
            As `append` returned it. Nobody knows here whether there is such a decision; `prepare`
            counts those that there are not.
        outcome : float, optional
            Quality of the answer, in [0, 1].
        feedback : str, optional
            What its reader did: thumbs_up, thumbs_down, retry, escalation or human_takeover.
        cost : float, optional
            What the answer cost; 0 or more.
        cheap_score, frontier_score : float, optional
            Quality of the answers of both tiers, in [0, 1], where both were asked.
        cheap_cost, frontier_cost : float, optional
            What each of them cost; 0 or more.

        Raises
        ------
        ValueError
            If one of them is none, or nothing is said.
        """
        if not isinstance(id, str) or not id.strip():
            raise ValueError(f"id is {id!r}; give the id that came with the decision")
        try:
            judged = judgement_of(
                {
                    "outcome": outcome,
                    "feedback": feedback,
                    "cost": cost,
                    "cheap_score": cheap_score,
                    "frontier_score": frontier_score,
                    "cheap_cost": cheap_cost,
                    "frontier_cost": frontier_cost,
                }
            )
        except ValueError as error:
            raise ValueError(
                f"{error}; give an outcome in [0, 1], a feedback (thumbs_up, thumbs_down, retry, "
                "escalation, human_takeover), a cost of 0 or more, a cheap_score and a "
                "frontier_score in [0, 1], or several of them"
            ) from error
        said = {"id": id, "time": utc_text(self._clock()), **judged}
        self._writer.put(self._outcomes, lambda: said)

    def append_shadow(self, id: str, decision: Decision) -> None:  # noqa: A002 the field's name
        """Have what a challenger would have decided written, later; never raises."""
        said = {
            "id": id,
            "time": utc_text(self._clock()),
            "tier": decision.tier,
            "decision_score": decision.decision_score,
            "reason": decision.reason,
            "policy": decision.model_version,
        }
        self._writer.put(self._shadow, lambda: said)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until what was appended is in the files, on disk unless `fsync` is `never`.

        Returns
        -------
        bool
            False where that took longer than the timeout.
        """
        return self._writer.flush(timeout_s)

    def close(self) -> None:
        """Write what was appended, and end; what comes later is dropped, and counted."""
        self._close()


def _decision_fields(
    decision: Decision,
    query: Query,
    place: Mapping[str, str | None],
    now: float,
    kept: LogSettings,
) -> dict[str, object]:
    """Return the line of a decision, without the fields of its place that are not known."""
    return {
        "id": place["id"],
        "time": utc_text(now),
        "tier": decision.tier,
        "propensity": decision.propensity,
        "policy": decision.model_version,
        **{name: value for name, value in place.items() if value is not None},
        "reason": decision.reason,
        "p_frontier": decision.p_frontier,
        "gain": decision.gain,
        "decision_score": decision.decision_score,
        "threshold": decision.threshold,
        "latency_ms": decision.latency_ms,
        "audit": decision.audit,
        "audit_propensity": decision.audit_propensity,
        **_kept_text(_text(query), kept),
    }


def _text(query: Query) -> str:
    try:
        return query if isinstance(query, str) else last_user_text(query)
    except TypeError:  # what is no query was decided all the same
        return ""


def _kept_text(text: str, kept: LogSettings) -> dict[str, object]:
    if kept.text == "full":
        return {"query": text}
    if kept.text == "redacted":
        return {"query": redact(text)[0]}
    content = text.encode("utf-8", "surrogatepass")
    digest = hmac.new(kept.salt.encode(), content, hashlib.sha256) if kept.salt else None
    return {"query_sha256": (digest or hashlib.sha256(content)).hexdigest()}
