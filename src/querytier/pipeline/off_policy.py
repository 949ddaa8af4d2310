"""Estimate how an artifact would have done on one-sided logs, compared with simple policies."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import read_all
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.errors import LogError
from querytier.eval.intervals import difference
from querytier.eval.off_policy.estimators import ESTIMATORS, OffPolicyEvaluation, evaluate_policies
from querytier.eval.off_policy.logged_decisions import LoggedDecisions, known_outcomes
from querytier.eval.off_policy.overlap import overlap_bins
from querytier.eval.off_policy.page import overlap_plot, render_page
from querytier.eval.rankings import keyword_tier
from querytier.files import atomic_file, stamp, write_json
from querytier.pipeline.params import EvaluateParams, Params
from querytier.pipeline.scoring import decide_all, embed_all, load_for_evaluation
from querytier.serve import Decision, Router

__all__ = ["ARTIFACT", "PolicyComparison", "compare_policies"]


ARTIFACT = "artifact"


@dataclass(frozen=True, eq=False)
class PolicyComparison:
    """The evaluation of an artifact's router and of simple policies on a one-sided log.

    Attributes
    ----------
    router : Router
    read : Examples
        All examples of the log.
    data : DataSummary
        Counts of the log's records.
    log : LoggedDecisions, length n
        The examples whose tier and outcome are known.
    decisions : sequence of Decision, length n
        The artifact's.
    policies : mapping of str to ndarray of float64, shape (n,)
        Each policy's probability of the frontier tier, the artifact's first.
    found : mapping of str to OffPolicyEvaluation
    params : EvaluateParams
    """

    router: Router
    read: Examples
    data: DataSummary
    log: LoggedDecisions
    decisions: Sequence[Decision]
    policies: Mapping[str, Floats]
    found: Mapping[str, OffPolicyEvaluation]
    params: EvaluateParams

    @property
    def refusal(self) -> str | None:
        """The reason why the log cannot evaluate the artifact; None if it can."""
        return self.found[ARTIFACT].overlap.reason

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `off_policy.json`."""
        return {
            **stamp(),
            "source": self.data.source,
            "fingerprint": self.data.fingerprint,
            "n": self._counts(),
            "quarantined": self.data.quarantined,
            "redacted": self.data.redacted,
            "model": self._model(),
            "reasons": dict(Counter(decision.reason for decision in self.decisions)),
            "cannot_claim": self.refusal,
            "logging": self._logging(),
            "rows": [self._row(name) for name in self.policies],
            "bootstrap": self.params.bootstrap,
            "seed": self.params.seed,
        }

    def write(self, out: Path) -> dict[str, Any]:
        """Write `off_policy.json` and `off_policy.html`; return the content of the former."""
        record = self.to_dict()
        write_json(out / "off_policy.json", record)
        with atomic_file(out / "off_policy.html") as scratch:
            scratch.write_text(render_page(record, self._plot()), "utf-8")
        return record

    def _counts(self) -> dict[str, Any]:
        """Count the rows, and the share of each tier's answers whose outcome is known."""
        answered = self.read.tier != ""
        known = ~np.isnan(known_outcomes(self.read))
        return {
            "rows": self.data.rows,
            "quarantined": sum(self.data.quarantined.values()),
            "passed_over": sum(self.data.passed_over.values()),
            "without_tier": int((~answered).sum()),
            "without_outcome": int((answered & ~known).sum()),
            "outcome_from_feedback": int((answered & known & np.isnan(self.read.outcome)).sum()),
            "evaluated": len(self.log),
            "evaluated_groups": len(np.unique(self.log.group.astype(str))),
            "share_with_outcome": {
                tier: float(known[self.read.tier == tier].mean())
                for tier in ("cheap", "frontier")
                if (self.read.tier == tier).any()
            },
        }

    def _model(self) -> dict[str, Any]:
        manifest = self.router.classifier.manifest
        return {
            "model_version": manifest.model_version,
            "decision_score": manifest.decision_score,
            "threshold": manifest.threshold,
            "trained_on": manifest.data["source"],
        }

    def _logging(self) -> dict[str, Any]:
        """Return the results of the router that wrote the log."""
        found, propensity = self.found[ARTIFACT], self.log.propensity
        known = not np.isnan(propensity).any()
        return {
            "policies": self.data.one_sided.policies,
            "frontier_rate": float(self.log.frontier.mean()),
            "smallest_propensity": float(propensity.min()) if known else None,
            "outcome": found.outcome.logged.to_dict(),
            "cost": found.cost.logged.to_dict(),
        }

    def _row(self, name: str) -> dict[str, Any]:
        found, ours = self.found[name], self.found[ARTIFACT]
        valued = {"outcome": found.outcome, "cost": found.cost}
        return {
            "name": name,
            "overlap": asdict(found.overlap),
            **{column: valuation.to_dict() for column, valuation in valued.items()},
            "behind_artifact": {
                column: {
                    estimator: difference(
                        getattr(getattr(ours, column), estimator), getattr(valuation, estimator)
                    ).to_dict()
                    for estimator in ESTIMATORS
                }
                for column, valuation in valued.items()
            },
        }

    def _plot(self) -> str | None:
        if np.isnan(self.log.propensity).any():
            return None
        bins = overlap_bins(self.log, self.policies[ARTIFACT])
        return overlap_plot(self.found[ARTIFACT].overlap, bins)


def compare_policies(
    sources: Sequence[LogSource], artifact: Path, out: Path, params: Params
) -> PolicyComparison:
    """Estimate the mean outcome and cost of an artifact's router on one-sided logs.

    Parameters
    ----------
    sources : sequence of LogSource
        With `query`, `tier`, and `outcome` or `feedback`. Estimates also need `propensity`, and
        estimates of costs need `cost`.
    artifact : Path
    out : Path
        Gets `quarantine.jsonl`.
    params : Params

    Raises
    ------
    UsageError
        If a file or a column does not exist, or tier or outcome is not mapped.
    LogError
        If a log cannot be read, too many records are bad, no row has both tier and outcome, or an
        outcome is not in [0, 1].
    ArtifactError
        If the artifact does not load.
    """
    router, section = load_for_evaluation(artifact), params.prepare
    # The feedback rule needs the same fields as an evaluation: the tier, and an outcome or
    # feedback.
    reading = Reading(LabelRules(("feedback",)), section.max_bad_share, section.redaction)
    out.mkdir(parents=True, exist_ok=True)
    read, data = read_all(sources, reading, out / "quarantine.jsonl")
    answered, known = read.tier != "", ~np.isnan(known_outcomes(read))
    examples = read.where(answered & known)
    if not len(examples):
        raise LogError(
            f"{data.source}: none of its {len(read)} rows has both the tier that answered "
            f"and the quality of the answer ({(~answered).sum()} without a tier, "
            f"{(answered & ~known).sum()} without an outcome or feedback)"
        )
    try:
        log = LoggedDecisions.of(examples)
    except ValueError as error:
        raise LogError(f"{data.source}: {error}") from error
    queries = examples.query.tolist()
    decisions = decide_all(router, queries)
    policies = _policies(decisions, queries)
    # Without propensities there will be no estimate, and embeddings take most of the time.
    refused = np.isnan(log.propensity).any()
    found = evaluate_policies(
        log,
        policies,
        features=None if refused else embed_all(router, examples.views()).astype(np.float64),
        replicates=params.evaluate.bootstrap,
        seed=params.evaluate.seed,
    )
    return PolicyComparison(router, read, data, log, decisions, policies, found, params.evaluate)


def _policies(decisions: Sequence[Decision], queries: Sequence[str]) -> dict[str, Floats]:
    """Return each policy's probability of the frontier tier; a fallback counts as its tier."""
    # The coin is the baseline that matters: an artifact that ranks no better than chance has the
    # same outcome and cost as the coin.
    ours = np.array([float(decision.tier == "frontier") for decision in decisions])
    keyword = np.array([float(keyword_tier(query) == "frontier") for query in queries])
    return {
        ARTIFACT: ours,
        "keyword_heuristic": keyword,
        "always_cheap": np.zeros(len(ours)),
        "always_frontier": np.ones(len(ours)),
        "coin_at_artifact_rate": np.full(len(ours), ours.mean()),
    }
