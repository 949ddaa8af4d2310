"""The watch over a certificate: it withdraws the promise when audited answers speak against it.

An audit is a decision that was picked at random (`RouterSettings.audit_rate`), whose query the
caller sends to both tiers, and whose two scores the caller then tells. The loss of each is what the
certificate bounds; one `EProcess` for the promise and one for each slice with a promise of its own
share the level between them. While the promises hold, the chance that the watch ever withdraws the
certificate is at most the level, however often and for however long one looks.

That is so if what is audited is like what was certified. Three things may part them: audits that
are never answered (they are counted; `missing="loss"` takes the worst of them), conversations
(promised is something of a random query of a random conversation: of each conversation only the
first audit is taken, yet long ones are picked more often), and queries for which the caller left
only one tier, which are never audited.

What was audited, heard and withdrawn stands in one file beside the decision log, a JSON object a
line, named by the model and its certificate::

    LOGS/certificate-9d7ab81ff8c6-0f3e5c2a9b81.jsonl

The state is what follows from that file, read from its beginning: nothing is forgotten by a restart
or a crash, several processes that share the folder share one test, and another artifact, or the
same one certified again, begins a file and a test of its own.
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
from querytier.serve.watch.audit_journal import AuditJournal
from querytier.serve.watch.audits import Audit, AuditQueue
from querytier.serve.watch.e_process import EProcess
from querytier.serve.watch.promised_risk import PromisedRisk
from querytier.serve.watch.state import State, WatchSettings, WatchState

__all__ = ["CertificateWatch"]

_log = logging.getLogger(__name__)
_SAID = ("cheap_score", "frontier_score", "cheap_cost", "frontier_cost")
_WHOLE = "all queries"


class CertificateWatch:
    """Watches the certificate of one artifact; threads may share it, and processes the folder.

    ::

        router = Router.load("runs/first/model", RouterSettings(audit_rate=0.02))
        watch = CertificateWatch(Path("logs"), router.classifier.manifest)
        router = router.withdrawn_when(watch.is_withdrawn)

        id = log.append(decision := router.decide(query), query)
        if decision.audit:
            watch.audited(id, decision.tier)  # ask both tiers, and when their answers are judged:
            watch.heard(id, cheap_score=0.0, frontier_score=1.0)

    Parameters
    ----------
    folder : Path
        Where its file is; that of the decision log.
    manifest : Manifest
        Of the artifact that decides.
    settings : WatchSettings, optional
    clock : callable
        Tells the seconds since 1970.
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
        self._taken = self._missing = self._repeated = 0
        self._loss = self._cost = self._now = 0.0
        self._calls: dict[Tier, int] = {"cheap": 0, "frontier": 0}
        self._withdrawn_for: str | None = None
        if self._promised is not None:
            self.look()

    def is_withdrawn(self) -> bool:
        """Tell whether the certificate is withdrawn, by the last look."""
        return self._withdrawn_for is not None

    def audited(
        self,
        id: str,  # noqa: A002 the log's own word
        tier: Tier,
        *,
        conversation: str | None = None,
        domain: str | None = None,
    ) -> None:
        """Take note of a decision that was picked; never raises for what a file system does.

        Parameters
        ----------
        id : str
            Of the decision.
        tier : {"cheap", "frontier"}
            The one that it was decided for; the other is asked for the audit alone.
        conversation, domain : str, optional
            Those of the query.
        """
        said = {"audit": id, "tier": tier, "conversation": conversation, "domain": domain}
        self._note({name: value for name, value in said.items() if value is not None})

    def heard(self, id: str, **said: object) -> None:  # noqa: A002 the log's own word
        """Take what is told of a query's answers, where it was audited and is not overdue.

        Parameters
        ----------
        id : str
            Of the decision.
        **said : float
            Any of cheap_score and frontier_score, in [0, 1], cheap_cost and frontier_cost, 0 or
            more, as the decision log takes them; other names are passed over.

        Raises
        ------
        ValueError
            If one of them is out of range.
        """
        known = {name: said[name] for name in _SAID if said.get(name) is not None}
        if known:
            self._note({"heard": id, **judgement_of(known)}, only_if=lambda: id in self._queue)

    def look(self) -> WatchState:
        """Return the state, with what other processes have written and what is overdue by now."""
        with self._lock:
            self._catch_up()
            return self._state()

    def _note(self, line: Mapping[str, object], only_if: Callable[[], bool] = lambda: True) -> None:
        if self._promised is None:
            return
        with self._lock:
            self._catch_up()
            if not self.is_withdrawn() and only_if():
                self._journal.write({"time": self._clock(), **line})
                self._catch_up()

    def _catch_up(self) -> None:
        """Take the new lines of the file, and what is overdue; withdraw where a test has fired."""
        if self._promised is None:
            return
        for line in self._journal.new_lines():
            self._pass_time(float(line["time"]))
            self._take(line)
        self._pass_time(self._clock())
        fired = [name for name, test in self._tests.items() if test.fired]
        if fired and not self.is_withdrawn():
            self._withdraw(fired[0])

    def _take(self, line: Mapping[str, Any]) -> None:
        if "withdrawn" in line:
            self._withdrawn_for = str(line["withdrawn"])
        elif "audit" in line:
            self._add(line)
        elif "heard" in line:
            said = {name: float(line[name]) for name in _SAID if name in line}
            self._queue.hear(line["heard"], said)

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
        """Take the losses of the audits that are ready at a time; clocks may not go back."""
        self._now = max(self._now, now)
        for audit in self._queue.released(self._now):
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
        self._taken += 1
        self._loss += loss
        for name in self._tests.keys() & {_WHOLE, domain or _WHOLE}:
            self._tests[name] = self._tests[name].after(loss)

    def _withdraw(self, name: str) -> None:
        self._withdrawn_for = name
        test = self._tests[name]
        self._journal.write({"time": self._now, "withdrawn": name, "wealth": test.wealth})
        _log.error(
            "the certificate is withdrawn: %d audits lost %g, and the promise about %s allows no "
            "such evidence against it (capital %.3g, %.3g is enough); the fallback tier answers "
            "until another artifact is loaded: train again, or certify again",
            self._taken,
            self._loss,
            name,
            test.wealth,
            test.needed,
        )

    def _state(self) -> WatchState:
        nearest = max(self._tests.values(), key=lambda test: test.wealth, default=None)
        return WatchState(
            state=self._word(),
            wealth=nearest.wealth if nearest else 1.0,
            needed=nearest.needed if nearest else 1 / self.settings.level,
            taken=self._taken,
            loss=self._loss,
            missing=self._missing,
            repeated=self._repeated,
            waiting=len(self._queue),
            extra_calls=dict(self._calls),
            extra_cost=self._cost + self._queue.extra_cost,
            failed=self._journal.failed,
            withdrawn_for=self._withdrawn_for,
        )

    def _word(self) -> State:
        if self._promised is None:
            return "nothing promised"
        return "withdrawn" if self.is_withdrawn() else "watching"


def _file_name(manifest: Manifest) -> str:
    digest = sha256(certificate_text(manifest.certificate).encode()).hexdigest()
    return f"certificate-{manifest.model_version}-{digest[:12]}.jsonl"


def _tests(promised: PromisedRisk | None, level: float) -> dict[str, EProcess]:
    """Return a test for all queries and one for each slice, which share the level."""
    if promised is None:
        return {}
    names = (_WHOLE, *promised.slices)
    return {name: EProcess(promised.alpha, level / len(names)) for name in names}
