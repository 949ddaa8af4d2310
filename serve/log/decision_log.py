"""The decision log: each decision when it is made, and its outcome when that is known.

::

    LOGS/decisions.jsonl                        the current file
    LOGS/decisions-20310507T060000Z-1.jsonl     closed, because of its size or age
    LOGS/outcomes.jsonl                         outcomes, by the ids of the decisions
    LOGS/shadow.jsonl                           what a challenger would have decided, by ids

`prepare` reads these files without a column map::

    querytier prepare LOGS/decisions*.jsonl --scores LOGS/outcomes.jsonl --out runs/next

(`querytier.data.formats.decision_log` describes how it joins them.) A decision is a JSON object per
line: `id`, `time`, `tier`, `propensity` (of the chosen tier), `policy` (the model version), `group`
(the conversation), `domain` and `tenant` if there are any, `reason`, `p_frontier`, `gain`,
`decision_score`, `threshold`, `latency_ms`, `audit`, `audit_propensity`, and `query` or
`query_sha256`. An outcome is `id`, `time`, and the fields that
`querytier.data.formats.decision_log.judgement_of` reads. `prepare` ignores the challenger's file.
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

    A context manager: when it ends, and when the interpreter ends, all lines are written. SIGTERM
    kills Python before that: have the handler raise SystemExit, or tell the service to close the
    log (do not close it in the handler, which may have interrupted `append`). `LogSettings`
    describes what may be lost otherwise.

    Parameters
    ----------
    folder : Path
        On a local file system; created if it is missing.
    settings : LogSettings
    clock : callable
        Returns the seconds since 1970.

    Raises
    ------
    UsageError
        If the folder cannot be created.
    MissingExtraError
        If the text has to be redacted and datafog is not installed.
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
            redact("")  # a missing package is an error at the start, not in the writer's thread
        limits = {
            name: getattr(self._settings, name) for name in ("max_bytes", "max_age_s", "keep")
        }
        self._decisions = LogFile(folder / DECISIONS, clock=clock, **limits)
        self._shadow = LogFile(folder / SHADOW, clock=clock, **limits)
        # One file forever: an outcome may come weeks later, for a decision of any file.
        self._outcomes = LogFile(folder / OUTCOMES, clock=clock)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"decisions cannot be logged in {folder}: {error}") from error
        self._writer = WriteBehind(self._settings, [self._decisions, self._outcomes, self._shadow])
        # Not `__del__`, which the interpreter may skip at its end; `finalize` is called then too.
        self._close = weakref.finalize(self, self._writer.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def written(self) -> int:
        """Number of lines in the files."""
        return self._writer.written

    @property
    def dropped(self) -> int:
        """Number of lines lost because the buffer was full or the log was closed."""
        return self._writer.dropped

    @property
    def failed(self) -> int:
        """Number of failed attempts to write; their lines wait in the buffer."""
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
        """Queue a decision to be written; never raises.

        Parameters
        ----------
        decision : Decision
        query : str or sequence of mappings
            The query of the decision; of chat messages, the last user turn is written.
        id : str, optional
            Id for the outcome to refer to; it has to be unique.
        conversation, domain, tenant : str, optional
            As in `Router.decide`. `prepare` uses the tenant as the example's `source`.

        Returns
        -------
        str
            The id: the one given, or a new one.
        """
        decision_id = id or uuid4().hex
        place = {"id": decision_id, "group": conversation, "domain": domain, "tenant": tenant}
        now, settings = self._clock(), self._settings
        self._writer.put(
            self._decisions, partial(_decision_fields, decision, query, place, now, settings)
        )
        return decision_id

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
        """Queue the outcome of a decision to be written; its parts may come one by one.

        Parameters
        ----------
        id : str
            The id that `append` returned. Whether there is such a decision is not checked here;
            `prepare` counts outcomes without one.
        outcome : float, optional
            Quality of the answer, in [0, 1].
        feedback : str, optional
            The reader's reaction: thumbs_up, thumbs_down, retry, escalation or human_takeover.
        cost : float, optional
            Cost of the answer; 0 or more.
        cheap_score, frontier_score : float, optional
            Quality of the answers of both tiers, in [0, 1], if both were asked.
        cheap_cost, frontier_cost : float, optional
            Cost of each of them; 0 or more.

        Raises
        ------
        ValueError
            If a value is out of range, or none is given.
        """
        if not isinstance(id, str) or not id.strip():
            raise ValueError(f"id is {id!r}; give the id that came with the decision")
        values: dict[str, object] = {
            "outcome": outcome,
            "feedback": feedback,
            "cost": cost,
            "cheap_score": cheap_score,
            "frontier_score": frontier_score,
            "cheap_cost": cheap_cost,
            "frontier_cost": frontier_cost,
        }
        try:
            judgement = judgement_of(values)
        except ValueError as error:
            raise ValueError(
                f"{error}; give an outcome in [0, 1], a feedback (thumbs_up, thumbs_down, retry, "
                "escalation, human_takeover), a cost of 0 or more, a cheap_score and a "
                "frontier_score in [0, 1], or several of them"
            ) from error
        # The time is taken now, not when the writer gets to it: the latest outcome wins.
        record = {"id": id, "time": utc_text(self._clock()), **judgement}
        self._writer.put(self._outcomes, lambda: record)

    def append_shadow(self, id: str, decision: Decision) -> None:  # noqa: A002 the field's name
        """Queue the decision of a challenger to be written; never raises."""
        record = {
            "id": id,
            "time": utc_text(self._clock()),
            "tier": decision.tier,
            "decision_score": decision.decision_score,
            "reason": decision.reason,
            "policy": decision.model_version,
        }
        self._writer.put(self._shadow, lambda: record)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all appended lines are in the files, on disk unless `fsync` is `never`.

        Returns
        -------
        bool
            False if that took longer than the timeout.
        """
        return self._writer.flush(timeout_s)

    def close(self) -> None:
        """Write all appended lines, and end; later lines are dropped and counted."""
        self._close()


def _decision_fields(
    decision: Decision,
    query: Query,
    place: Mapping[str, str | None],
    now: float,
    settings: LogSettings,
) -> dict[str, object]:
    """Return the line of a decision, without the fields of `place` that are unknown."""
    fields = decision.to_dict()
    return {
        "id": place["id"],
        "time": utc_text(now),
        "policy": fields.pop("model_version"),
        **{name: value for name, value in place.items() if value is not None},
        **fields,
        **_logged_text(_text(query), settings),
    }


def _text(query: Query) -> str:
    try:
        return query if isinstance(query, str) else last_user_text(query)
    except TypeError:  # the router decides anything, even if it is not a query
        return ""


def _logged_text(text: str, settings: LogSettings) -> dict[str, object]:
    if settings.text == "full":
        return {"query": text}
    if settings.text == "redacted":
        return {"query": redact(text)[0]}
    content = text.encode("utf-8", "surrogatepass")
    # A salt is a key (HMAC), not a prefix: with a prefix, a known hash could be extended.
    digest = hmac.new(settings.salt.encode(), content, hashlib.sha256) if settings.salt else None
    return {"query_sha256": (digest or hashlib.sha256(content)).hexdigest()}
