"""The router's side: load an artifact once, decide every query."""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Self

from querytier.classifier.certificate import covered_domains, expiry, mismatch
from querytier.classifier.manifest import Manifest
from querytier.classifier.runtime import Classifier
from querytier.classifier.threshold import tier_of
from querytier.data.text_view import text_view
from querytier.errors import ArtifactError
from querytier.serve.choices import (
    Choice,
    Conversations,
    TenantShares,
    allowed_tiers,
    apply_cap,
    explore,
    override,
)
from querytier.serve.decision import Decision, DecisionRequest, Query, Reason
from querytier.serve.settings import RouterSettings

__all__ = ["Router"]

_log = logging.getLogger(__name__)

# Threads that decide if there is a deadline. More would only wait for the processor.
_THREADS = 4


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Router:
    """Decides which tier answers a query. Threads may share it.

    In asynchronous code, `await asyncio.to_thread(router.decide, query)` keeps the event loop free;
    the graph runs outside of Python's lock.

    Attributes
    ----------
    classifier : Classifier
    settings : RouterSettings
    certified_until : float
        Time in seconds since 1970 from which the fallback tier answers because the certificate has
        expired. -infinity if the certificate does not match this artifact; infinity if no
        certificate expires.
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
        settings, cap = self.settings, self.settings.tenant_cap
        state = {
            "_conversations": Conversations(settings.conversations),
            "_tenants": None if cap is None else TenantShares(cap),
            "_threads": ThreadPoolExecutor(_THREADS, thread_name_prefix="querytier"),
            "_covered": covered_domains(self.classifier.manifest.certificate),
            # A generator of its own: exploration draws from another one, so that turning it on
            # does not change which queries are audited.
            "_audits": Random(settings.audit_seed),  # noqa: S311 no secret
        }
        for name, value in state.items():
            object.__setattr__(self, name, value)

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
            If the folder is not an artifact, if one of its files is missing or has changed, or if
            the settings ask for typicality and the artifact has no such output.

        Warns
        -----
        In the log, if the certificate has expired or does not match this artifact.
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
                f"{path} has no typicality output, and least_typicality is "
                f"{router.settings.least_typicality:g}: train on a log that leaves calibration "
                "rows (1,000 rows are enough) and export again, or set it to 0"
            )
        return router

    def withdrawn_when(self, is_withdrawn: Callable[[], bool]) -> Self:
        """Return a router that falls back once `is_withdrawn` returns True.

        Parameters
        ----------
        is_withdrawn : callable
            For example `CertificateWatch.is_withdrawn`; called for every query.
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

        If the classifier cannot answer, the decision is the artifact's fallback tier with the
        reason. `allow` and `deny` take precedence over the classifier and over exploration.

        Parameters
        ----------
        query : str or sequence of mappings
            The query, or chat messages of which the last user turn is the query.
        allow, deny : collection of {"cheap", "frontier"}, optional
            Tiers that may answer this query, and tiers that may not.
        conversation : str, optional
            Name of the conversation, if the settings keep conversations on the frontier tier.
        domain : str, optional
            Domain of the query. If the certificate covers only some domains, a query of another
            domain gets the fallback tier.
        tenant : str, optional
            Name of the tenant, if the settings cap a tenant's share of the frontier tier.
        """
        return self._decide(
            lambda: DecisionRequest(query, allowed_tiers(allow, deny), conversation, domain, tenant)
        )

    def decide_request(self, request: DecisionRequest) -> Decision:
        """Decide a request whose tiers have been checked already; never raises."""
        return self._decide(lambda: request)

    def decide_many(self, queries: Iterable[Query]) -> list[Decision]:
        """Decide queries one after the other, each as `decide` does.

        One by one, because an 8-bit graph scores a query differently as part of a batch.
        """
        return [self.decide(query) for query in queries]

    def _decide(self, request: Callable[[], DecisionRequest]) -> Decision:
        started = time.perf_counter()
        try:
            choice = self._choice(request())
        except Exception:  # noqa: BLE001 a router must get a tier whatever happens here
            _log.exception("the decision failed; the fallback tier answers")
            choice = self._fallback("fallback:error")
        return self._decision(choice, started)

    def _choice(self, request: DecisionRequest) -> Choice:
        choice = self._classify_in_time(request.query)
        covered, domain = self._covered, request.domain
        if domain is not None and covered is not None and domain not in covered:
            choice = self._fallback("fallback:certificate")
        if self._tenants is None or request.tenant is None:
            choice = self._adjust(choice, request, at_cap=False)
        else:
            choice = self._tenants.choose(
                request.tenant, lambda full: self._adjust(choice, request, at_cap=full)
            )
        if request.allowed is None:
            choice = self._sample_audit(choice)
        if request.conversation is not None and choice.tier == "frontier":
            self._conversations.add(request.conversation)
        return choice

    def _classify_in_time(self, query: Query) -> Choice:
        if self.settings.deadline_ms is None:
            return self._classify(query)
        pending = self._threads.submit(self._classify, query)
        try:
            return pending.result(self.settings.deadline_ms / 1000)
        except TimeoutError:
            # This stops only a call that has not begun: a running graph cannot be interrupted, and
            # keeps one of the threads until it ends.
            pending.cancel()
            return self._fallback("fallback:timeout")

    def _classify(self, query: Query) -> Choice:
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

    def _adjust(self, choice: Choice, request: DecisionRequest, *, at_cap: bool) -> Choice:
        """Apply the caller's limits, the conversation, exploration and the tenant's cap."""
        if request.allowed is not None:
            choice = override(choice, request.allowed)
        cap = self.settings.tenant_cap if at_cap and request.allowed != ("frontier",) else None
        if request.allowed is None:
            # No exploration at the cap: the cap would replace the drawn tier, and its propensity
            # would be false.
            choice = self._remember_or_explore(choice, request, may_explore=cap is None)
        return choice if cap is None else apply_cap(choice, cap)

    def _remember_or_explore(
        self, choice: Choice, request: DecisionRequest, *, may_explore: bool
    ) -> Choice:
        if request.conversation is not None and request.conversation in self._conversations:
            stays = choice.tier == "frontier"
            return choice if stays else choice._replace(tier="frontier", reason="conversation")
        if self.settings.exploration is None or not may_explore:
            return choice
        return explore(choice, self.settings.exploration, self.classifier.manifest.threshold)

    def _sample_audit(self, choice: Choice) -> Choice:
        """Pick the choice for the audit with probability `audit_rate`.

        The certificate covers what the threshold sends to the cheap tier, even if memory or
        exploration then chose the other. A caller that limits the tiers would not ask both.
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
    """Return when the fallback tier takes over; log a warning if it already has."""
    until, wrong = expiry(manifest.certificate), mismatch(folder, manifest)
    if wrong is None and time.time() < until:
        return until
    if wrong is None:
        wrong = f"it expired on {manifest.certificate.details['expires']}"
    _log.warning(
        "the certificate of %s does not hold: %s; the %s tier answers every query until the "
        "artifact is certified again (querytier certify)",
        folder,
        wrong,
        manifest.fallback_tier,
    )
    return -math.inf
