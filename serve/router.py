"""The router's side: load an artifact once, decide every query."""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Self

from querytier.classifier.certificate import covered_domains, expiry, mismatch
from querytier.classifier.manifest import Manifest
from querytier.classifier.runtime import Classifier
from querytier.classifier.threshold import Tier, tier_of
from querytier.data.text_view import text_view
from querytier.errors import ArtifactError
from querytier.serve.choices import Choice, allowed_tiers, capped, explored, overridden
from querytier.serve.conversations import Conversations
from querytier.serve.decision import Decision, Query, Reason
from querytier.serve.settings import RouterSettings
from querytier.serve.tenants import TenantShares

__all__ = ["Router"]

_log = logging.getLogger(__name__)

# Threads that decide where there is a deadline. More would only wait for the processor.
_THREADS = 4


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Router:
    """Decides which tier answers a query. Threads may share it.

    In asynchronous code, `await asyncio.to_thread(router.decide, query)` decides beside the event
    loop; the graph runs outside of Python's lock.

    Attributes
    ----------
    classifier : Classifier
    settings : RouterSettings
    certified_until : float
        From then on, in seconds since 1970, the fallback tier answers: the certificate has lapsed,
        or never was for this artifact. Infinity where there is none.
    is_withdrawn : callable
        Returns whether the certificate has been withdrawn, so that the fallback tier answers.
    """

    classifier: Classifier
    settings: RouterSettings = field(default_factory=RouterSettings)
    certified_until: float = math.inf
    is_withdrawn: Callable[[], bool] = _never
    _conversations: Conversations = field(init=False, repr=False, compare=False)
    _tenants: TenantShares | None = field(init=False, repr=False, compare=False)
    _threads: ThreadPoolExecutor = field(init=False, repr=False, compare=False)
    _covered: frozenset[str] | None = field(init=False, repr=False, compare=False)
    _audits: Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="querytier")
        object.__setattr__(self, "_conversations", Conversations(self.settings.conversations))
        object.__setattr__(self, "_threads", threads)
        cap = self.settings.tenant_cap
        object.__setattr__(self, "_tenants", None if cap is None else TenantShares(cap))
        covered = covered_domains(self.classifier.manifest.certificate)
        object.__setattr__(self, "_covered", covered)
        object.__setattr__(self, "_audits", Random(self.settings.audit_seed))  # noqa: S311 no secret

    @classmethod
    def load(cls, path: Path | str, settings: RouterSettings | None = None) -> Self:
        """Load an artifact.

        Parameters
        ----------
        path : Path or str
            The folder that `querytier run` or `querytier export` wrote, or the name of a registered
            version: `models:/querytier@champion`.
        settings : RouterSettings, optional

        Raises
        ------
        ArtifactError
            If the folder is no artifact, a file of it is missing or changed, or it cannot tell how
            typical a query is and the settings ask for that.

        Warns
        -----
        In the log, where the certificate has lapsed or is not for this artifact.
        """
        if str(path).startswith("models:/"):
            # Only a registered name needs the registry; a folder loads nothing of it.
            from querytier.tracking.model_uri import fetch_artifact

            path = fetch_artifact(path)
        classifier = Classifier.load(path)
        until = _certified_until(Path(path), classifier.manifest)
        router = cls(classifier, settings or RouterSettings(), until)
        if router.settings.least_typicality and not router.classifier.has_typicality:
            raise ArtifactError(
                f"{path} cannot tell how typical a query is, and least_typicality is "
                f"{router.settings.least_typicality:g}: train on a log that leaves calibration "
                "rows (1,000 rows are enough) and export again, or set it to 0"
            )
        return router

    def withdrawn_when(self, is_withdrawn: Callable[[], bool]) -> Self:
        """Return a router that falls back once `is_withdrawn` returns True.

        Parameters
        ----------
        is_withdrawn : callable
            For example `CertificateWatch.is_withdrawn`; it is called for every query.
        """
        return replace(self, is_withdrawn=is_withdrawn)

    def decide(
        self,
        query: Query,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        conversation: str | None = None,
        domain: str | None = None,
        tenant: str | None = None,
    ) -> Decision:
        """Decide a query; never raises.

        What the classifier cannot answer gets the artifact's fallback tier, with the reason. A
        caller's own word comes before the classifier's, and before exploration.

        Parameters
        ----------
        query : str or sequence of mappings
            The query, or chat messages of which the last user turn is the query.
        allow, deny : collection of {"cheap", "frontier"}, optional
            Tiers that may answer this query, and that may not.
        conversation : str, optional
            Its name, where the settings have conversations stay with the frontier tier.
        domain : str, optional
            The query's, where the certificate names the domains that it covers: one that it does
            not cover gets the fallback tier.
        tenant : str, optional
            On whose behalf is asked, where the settings cap a tenant's share of the frontier tier.
        """
        started = time.perf_counter()
        try:
            choice = self._in_time(query)
            if domain is not None and self._covered is not None and domain not in self._covered:
                choice = self._fallback("fallback:certificate")
            left = allowed_tiers(allow, deny) if allow is not None or deny is not None else None
            settle = partial(self._settled, choice, left, conversation)
            if self._tenants is None or tenant is None:
                choice = settle(at_cap=False)
            else:
                choice = self._tenants.settled(tenant, lambda full: settle(at_cap=full))
            choice = self._picked(choice) if left is None else choice
            if conversation is not None and choice.tier == "frontier":
                self._conversations.add(conversation)
        except Exception:  # noqa: BLE001 a router must get a tier whatever happens here
            _log.exception("the decision failed; the fallback tier answers")
            choice = self._fallback("fallback:error")
        return self._decision(choice, started)

    def decide_many(self, queries: Iterable[Query]) -> list[Decision]:
        """Decide queries one after the other, each as `decide` does.

        One by one, because an 8-bit graph scores a query differently beside others.
        """
        return [self.decide(query) for query in queries]

    def _in_time(self, query: Query) -> Choice:
        if self.settings.deadline_ms is None:
            return self._chosen(query)
        pending = self._threads.submit(self._chosen, query)
        try:
            return pending.result(self.settings.deadline_ms / 1000)
        except TimeoutError:
            pending.cancel()
            return self._fallback("fallback:timeout")

    def _chosen(self, query: Query) -> Choice:
        if time.time() >= self.certified_until or self.is_withdrawn():
            return self._fallback("fallback:certificate")
        view = text_view(query)
        if not view:
            return self._fallback("fallback:empty")
        least = self.settings.least_typicality
        scores = self.classifier.scores(view, typicality=least > 0)
        if not math.isfinite(scores.p_frontier + scores.decision_score):
            return self._fallback("fallback:error")
        if scores.typicality is not None and scores.typicality < least:
            return self._fallback("fallback:out_of_distribution")
        threshold = self.classifier.manifest.threshold
        return Choice(tier_of(scores.decision_score, threshold), "classifier", scores)

    def _settled(
        self,
        choice: Choice,
        left: tuple[Tier, ...] | None,
        conversation: str | None,
        *,
        at_cap: bool,
    ) -> Choice:
        """Return what the caller's word, memory, chance and the tenant's cap make of a choice."""
        if left is not None:
            choice = overridden(choice, left)
        cap = self.settings.tenant_cap if at_cap and left != ("frontier",) else None
        if left is None:
            choice = self._adjusted(choice, conversation, draws=cap is None)
        return choice if cap is None else capped(choice, cap)

    def _adjusted(self, choice: Choice, conversation: str | None, *, draws: bool) -> Choice:
        """Return what memory and chance make of a choice that the caller leaves free."""
        if conversation is not None and conversation in self._conversations:
            stays = choice.tier == "frontier"
            return choice if stays else choice._replace(tier="frontier", reason="conversation")
        if self.settings.exploration is None or not draws:
            return choice
        return explored(choice, self.settings.exploration, self.classifier.manifest.threshold)

    def _picked(self, choice: Choice) -> Choice:
        """Pick a choice for the audit, or not.

        The certificate speaks of what the threshold sends to the cheap tier, whichever tier memory
        or exploration has it go to. Where the caller left one tier only, the other is not asked.
        """
        manifest, rate = self.classifier.manifest, self.settings.audit_rate
        if not rate or choice.scores is None or manifest.certificate.status != "granted":
            return choice
        if tier_of(choice.scores.decision_score, manifest.threshold) != "cheap":
            return choice
        return choice._replace(audit=self._audits.random() < rate, audit_propensity=rate)

    def _fallback(self, reason: Reason) -> Choice:
        return Choice(self.classifier.manifest.fallback_tier, reason)

    def _decision(self, choice: Choice, started: float) -> Decision:
        manifest, scores = self.classifier.manifest, choice.scores
        return Decision(
            tier=choice.tier,
            p_frontier=scores.p_frontier if scores else None,
            gain=scores.gain if scores else None,
            decision_score=scores.decision_score if scores else None,
            threshold=manifest.threshold,
            reason=choice.reason,
            propensity=choice.propensity,
            model_version=manifest.model_version,
            latency_ms=(time.perf_counter() - started) * 1000,
            audit=choice.audit,
            audit_propensity=choice.audit_propensity,
        )


def _certified_until(folder: Path, manifest: Manifest) -> float:
    """Return when the fallback tier takes over, and say in the log that it has."""
    until, wrong = expiry(manifest.certificate), mismatch(folder, manifest)
    if wrong is None and time.time() < until:
        return until
    if wrong is None:
        wrong = f"it lapsed on {manifest.certificate.details['expires']}"
    _log.warning(
        "the certificate of %s does not hold: %s; %s answers every query until the artifact is "
        "certified again (querytier certify)",
        folder,
        wrong,
        manifest.fallback_tier,
    )
    return -math.inf
