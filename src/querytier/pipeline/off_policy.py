"""What an artifact's router would have got on one-sided logs, beside simple policies."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import read_all
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.data.text_view import text_view
from querytier.errors import LogError
from querytier.eval.intervals import difference
from querytier.eval.off_policy.estimators import ESTIMATORS, OffPolicyEvaluation, evaluate_policies
from querytier.eval.off_policy.logged_decisions import LoggedDecisions, known_outcomes
from querytier.eval.off_policy.overlap import overlap_bins
from querytier.eval.off_policy.overlap_plot import overlap_plot
from querytier.eval.off_policy.page import render_page
from querytier.eval.rankings import keyword_tier
from querytier.files import atomic_file
from querytier.pipeline.params import EvaluateParams, Params
from querytier.pipeline.scoring import decide_all, embed_all, load_to_judge
from querytier.serve import Decision, Router

__all__ = ["ARTIFACT", "PolicyComparison", "compare_policies"]

Floats = NDArray[np.float64]

ARTIFACT = "artifact"


@dataclass(frozen=True, eq=False)
class PolicyComparison:
    """What a one-sided log says about an artifact's router, and about policies beside it.

    Attributes
    ----------
    router : Router
    read : Examples
        All that were read.
    data : DataSummary
        What became of the log's records.
    log : LoggedDecisions, length n
        Those of the examples whose tier and outcome are known.
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
        """Why the log can claim nothing about the artifact; None where it can."""
        return self.found[ARTIFACT].overlap.reason

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `off_policy.json`."""
        return {
            "querytier": version("querytier"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
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
        """Write `off_policy.json` and `off_policy.html`; return what the former holds."""
        record = self.to_dict()
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        page = render_page(record, self._plot())
        for name, content in (("off_policy.json", text + "\n"), ("off_policy.html", page)):
            with atomic_file(out / name) as scratch:
                scratch.write_text(content, "utf-8")
        return record

    def _counts(self) -> dict[str, Any]:
        """Count rows by what became of them, and the answers of either tier by what is known."""
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
        """Return what the router got that wrote the log."""
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
    """Estimate what an artifact's router would have got on one-sided logs.

    Parameters
    ----------
    sources : sequence of LogSource
        With `query`, `tier`, and `outcome` or `feedback`; `propensity` where anything is to be
        claimed, `cost` where it is asked for.
    artifact : Path
    out : Path
        Gets `quarantine.jsonl`.
    params : Params

    Raises
    ------
    UsageError
        If a file or a column does not exist, or tier or outcome is not mapped.
    LogError
        If a log cannot be read, too many records are bad, no row tells both tier and outcome, or
        outcomes are not in [0, 1].
    ArtifactError
        If the artifact does not load.
    """
    router = load_to_judge(artifact)
    out.mkdir(parents=True, exist_ok=True)
    read, data = read_all(sources, _reading(params), out / "quarantine.jsonl")
    examples = _judged(read, data.source)
    log = _logged(examples, data.source)
    queries = examples.query.tolist()
    decisions = decide_all(router, queries)
    policies = _policies(decisions, queries)
    section = params.evaluate
    found = evaluate_policies(
        log,
        policies,
        features=_features(router, log, queries),
        replicates=section.bootstrap,
        seed=section.seed,
    )
    return PolicyComparison(router, read, data, log, decisions, policies, found, section)


def _reading(params: Params) -> Reading:
    """Ask for what a one-sided log has to have: the tier, and an outcome or feedback."""
    section = params.prepare
    return Reading(LabelRules(("feedback",)), section.max_bad_share, section.redaction)


def _judged(read: Examples, source: str) -> Examples:
    answered, known = read.tier != "", ~np.isnan(known_outcomes(read))
    examples = read.where(answered & known)
    if not len(examples):
        raise LogError(
            f"{source}: none of its {len(read)} rows tells both which tier answered and how good "
            f"the answer was ({(~answered).sum()} without a tier, {(answered & ~known).sum()} "
            "without an outcome or feedback)"
        )
    return examples


def _logged(examples: Examples, source: str) -> LoggedDecisions:
    try:
        return LoggedDecisions.of(examples)
    except ValueError as error:
        raise LogError(f"{source}: {error}") from error


def _policies(decisions: Sequence[Decision], queries: Sequence[str]) -> dict[str, Floats]:
    """Return each policy's probability of the frontier tier; a fallback counts as its tier."""
    ours = np.array([float(decision.tier == "frontier") for decision in decisions])
    keyword = np.array([float(keyword_tier(query) == "frontier") for query in queries])
    return {
        ARTIFACT: ours,
        "keyword_heuristic": keyword,
        "always_cheap": np.zeros(len(ours)),
        "always_frontier": np.ones(len(ours)),
        "coin_at_artifact_rate": np.full(len(ours), ours.mean()),
    }


def _features(router: Router, log: LoggedDecisions, queries: Sequence[str]) -> Floats | None:
    """Return what the outcome model sees; nothing where no estimate will be made."""
    if np.isnan(log.propensity).any():
        return None
    return embed_all(router, [text_view(query) for query in queries]).astype(np.float64)
