"""The watch over a certificate: it withdraws the promise if audited answers refute it.

An audit is a decision that was picked at random (`RouterSettings.audit_rate`): the caller asks both
tiers and reports both scores. Its loss is what the certificate bounds. One `EProcess` for the
promise about all queries, and one for each slice with a promise of its own, share the level between
them. While the promises hold, the probability that the watch ever withdraws the certificate is at
most the level, however often and for however long anybody looks.

This holds if the audited queries are like those of the certification. Three things may make them
differ: audits that are never answered (they are counted; `missing="loss"` assumes the worst of
them), conversations (the promise is about a random query of a random conversation: only the first
audit of a conversation counts, although long ones are picked more often), and queries for which the
caller allows one tier only, which are never audited.

Audits, their scores and the withdrawal are in one file in the folder of the decision log, a JSON
object per line, named by the model and its certificate::

    LOGS/certificate-9d7ab81ff8c6-0f3e5c2a9b81.jsonl

The state follows from that file alone, read from its beginning: a restart or a crash forgets
nothing, processes that share the folder share one test, and another artifact, or the same one
certified again, begins a file and a test of its own.
"""

import logging
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from querytier.classifier.certificate import certificate_text
from querytier.classifier.manifest import Manifest
from querytier.classifier.threshold import Tier
from querytier.data.formats.decision_log import judgement_of
from querytier.serve.watch.audits import Audit, AuditJournal, AuditQueue
from querytier.serve.watch.e_process import EProcess
from querytier.serve.watch.promised_risk import PromisedRisk
from querytier.serve.watch.state import State, WatchSettings, WatchState

__all__ = ["CertificateWatch"]

_log = logging.getLogger(__name__)
_JUDGEMENT = ("cheap_score", "frontier_score", "cheap_cost", "frontier_cost")
_WHOLE = "all queries"


class CertificateWatch:
    """Watches the certificate of one artifact; threads may share it, and processes the folder.

    ::

        router = Router.load("runs/first/model", RouterSettings(audit_rate=0.02))
        watch = CertificateWatch(Path("logs"), router.classifier.manifest)
        router = router.withdrawn_when(watch.is_withdrawn)

        id = log.append(decision := router.decide(query), query)
        if decision.audit:
            watch.add(id, decision.tier)  # ask both tiers, and when their answers are judged:
            watch.record(id, cheap_score=0.0, frontier_score=1.0)

    Parameters
    ----------
    folder : Path
        Folder of its file: that of the decision log.
    manifest : Manifest
        Manifest of the artifact that decides.
    settings : WatchSettings, optional
    clock : callable
        Returns the seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        settings: WatchSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or WatchSettings()
        self._clock, self._lock = clock, Lock()
        self._promised = PromisedRisk.of(manifest)
        self._journal = AuditJournal(folder / _file_name(manifest))
        self._queue = AuditQueue(self.settings.timeout_s)
        self._tests = _tests(self._promised, self.settings.level)
        self._conversations: set[str] = set()
        self._tested = self._missing = self._repeated = 0
        self._loss = self._cost = self._now = 0.0
        self._calls: dict[Tier, int] = {"cheap": 0, "frontier": 0}
        self._withdrawn_for: str | None = None
        if self._promised is not None:
            self.look()

    def is_withdrawn(self) -> bool:
        """Return whether the certificate had been withdrawn at the last look."""
        return self._withdrawn_for is not None

    def add(
        self,
        id: str,  # noqa: A002 the log's own word
        tier: Tier,
        *,
        conversation: str | None = None,
        domain: str | None = None,
    ) -> None:
        """Add a decision that was picked for the audit; raises no error of a file system.

        Parameters
        ----------
        id : str
            Id of the decision.
        tier : {"cheap", "frontier"}
            The tier that was decided; the other is asked only for the audit.
        conversation, domain : str, optional
            As in `Router.decide`.
        """
        fields = {"audit": id, "tier": tier, "conversation": conversation, "domain": domain}
        self._write({name: value for name, value in fields.items() if value is not None})

    def record(self, id: str, **judgement: object) -> None:  # noqa: A002 the log's own word
        """Record scores and costs of the answers to a query, if it waits for its audit.

        Parameters
        ----------
        id : str
            Id of the decision.
        **judgement : float
            Any of cheap_score and frontier_score, in [0, 1], and of cheap_cost and frontier_cost, 0
            or more, as in `DecisionLog.append_outcome`; other names are ignored.

        Raises
        ------
        ValueError
            If a value is out of range.
        """
        known = {name: judgement[name] for name in _JUDGEMENT if judgement.get(name) is not None}
        if known:
            # "heard" is the word of the file's format.
            self._write({"heard": id, **judgement_of(known)}, only_if=lambda: id in self._queue)

    def look(self) -> WatchState:
        """Return the state, after reading other processes' lines and releasing overdue audits."""
        with self._lock:
            self._catch_up()
            return self._state()

    def _write(
        self, line: Mapping[str, object], only_if: Callable[[], bool] = lambda: True
    ) -> None:
        if self._promised is None:
            return
        with self._lock:
            self._catch_up()
            if not self.is_withdrawn() and only_if():
                self._journal.write({"time": self._clock(), **line})
                # Its own line is read back from the file like any other: there is one order of
                # events, the file's, and every process computes the same state from it.
                self._catch_up()

    def _catch_up(self) -> None:
        """Apply the file's new lines and release overdue audits; withdraw if a test has fired."""
        if self._promised is None:
            return
        for line in self._journal.new_lines():
            self._pass_time(float(line["time"]))
            self._apply(line)
        self._pass_time(self._clock())
        fired = [name for name, test in self._tests.items() if test.fired]
        if fired and not self.is_withdrawn():
            self._withdraw(fired[0])

    def _apply(self, line: Mapping[str, Any]) -> None:
        if "withdrawn" in line:
            self._withdrawn_for = str(line["withdrawn"])
        elif "audit" in line:
            self._add(line)
        elif "heard" in line:
            judgement = {name: float(line[name]) for name in _JUDGEMENT if name in line}
            self._queue.record(line["heard"], judgement)

    def _add(self, line: Mapping[str, Any]) -> None:
        audit = Audit(line["audit"], float(line["time"]), line["tier"], line.get("domain"))
        self._calls[audit.extra_tier] += 1
        conversation = line.get("conversation")
        if conversation in self._conversations:
            self._repeated += 1
            return
        if conversation is not None:
            self._conversations.add(conversation)
        self._queue.add(audit)

    def _pass_time(self, now: float) -> None:
        """Test the losses of audits that are ready at a time."""
        # Clocks of processes differ and may be set back; an audit that was overdue stays overdue.
        self._now = max(self._now, now)
        for audit in self._queue.release(self._now):
            self._cost += audit.extra_cost
            loss = self._loss_of(audit)
            self._missing += audit.scores is None
            if loss is not None:
                self._test(loss, audit.domain)

    def _loss_of(self, audit: Audit) -> float | None:
        assert self._promised is not None
        if audit.scores is not None:
            return self._promised.loss(*audit.scores)
        return 1.0 if self.settings.missing == "loss" else None

    def _test(self, loss: float, domain: str | None) -> None:
        self._tested += 1
        self._loss += loss
        for name in self._tests.keys() & {_WHOLE, domain or _WHOLE}:
            self._tests[name] = self._tests[name].after(loss)

    def _withdraw(self, name: str) -> None:
        self._withdrawn_for = name
        test = self._tests[name]
        self._journal.write({"time": self._now, "withdrawn": name, "wealth": test.wealth})
        _log.error(
            "the certificate is withdrawn: %d audits with a total loss of %g refute the promise "
            "about %s (evidence %.3g, limit %.3g); the fallback tier answers until another "
            "artifact is loaded: train again, or certify again",
            self._tested,
            self._loss,
            name,
            test.wealth,
            test.needed,
        )

    def _state(self) -> WatchState:
        state: State = "withdrawn" if self.is_withdrawn() else "watching"
        strongest = max(self._tests.values(), key=lambda test: test.wealth, default=None)
        return WatchState(
            state="nothing promised" if self._promised is None else state,
            wealth=strongest.wealth if strongest else 1.0,
            needed=strongest.needed if strongest else 1 / self.settings.level,
            taken=self._tested,
            loss=self._loss,
            missing=self._missing,
            repeated=self._repeated,
            waiting=len(self._queue),
            extra_calls=dict(self._calls),
            extra_cost=self._cost + self._queue.extra_cost,
            failed=self._journal.failed,
            withdrawn_for=self._withdrawn_for,
        )


def _file_name(manifest: Manifest) -> str:
    # The certificate's hash, and not its date: the same artifact may be certified twice a day.
    digest = sha256(certificate_text(manifest.certificate).encode()).hexdigest()
    return f"certificate-{manifest.model_version}-{digest[:12]}.jsonl"


def _tests(promised: PromisedRisk | None, level: float) -> dict[str, EProcess]:
    """Return a test for all queries and one for each slice, which share the level."""
    if promised is None:
        return {}
    names = (_WHOLE, *promised.slices)
    # Bonferroni: by the union bound, the probability of any false alarm is at most the level.
    return {name: EProcess(promised.alpha, level / len(names)) for name in names}
