"""An artifact's decisions on labelled rows, beside the baselines: metrics and reports."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.manifest import Manifest
from querytier.data.atomic import atomic_file
from querytier.data.data_summary import DataSummary
from querytier.data.examples import Examples
from querytier.data.labelling import RULE_BIASES
from querytier.eval.bootstrap import Resampling
from querytier.eval.evaluation import (
    Evaluation,
    Ranking,
    evaluate_rankings,
    oracle,
    probability_ranking,
    shuffled_decisions,
)
from querytier.eval.gate import Gate
from querytier.eval.heuristics import (
    KEYWORD_THRESHOLD,
    keyword_scores,
    length_scores,
)
from querytier.eval.mistakes import Neighbourhood, mistakes_record
from querytier.eval.plots import gain_plot, reliability_plot, score_plot
from querytier.eval.promise import promise_record
from querytier.eval.reliability import calibration_scores
from querytier.eval.report import render_markdown, render_model_card, render_report
from querytier.eval.slice_record import slice_record
from querytier.params import EvaluateParams
from querytier.pricing import Pricing, routing_cost_of
from querytier.scoring import decide_all
from querytier.serve import Decision, Router
from querytier.training.baselines import Labelled

__all__ = ["REPORT_FILES", "Assessment", "assess", "row_counts", "unfitted_rankings"]

REPORT_FILES = ("metrics.json", "report.html", "report.md", "model_card.md")

Floats = NDArray[np.float64]

_NOT_FITTED = "nothing"


@dataclass(frozen=True, eq=False)
class Assessment:
    """What an artifact did on labelled rows.

    Attributes
    ----------
    examples : Examples, length n
    router : Router
    decisions : sequence of Decision, length n
    evaluation : Evaluation
    rankings : sequence of Ranking
        The classifier's, then the baselines', as in `evaluation.rows`.
    rows_left_out : dict of str to str
        Baselines that could not be had, and why.
    neighbourhood : Neighbourhood
        Where the neighbours of mistakes are looked for.
    pricing : Pricing or None
        None where no price table was given.
    champion : Router or None
        The classifier that stands beside this one.
    params : EvaluateParams
    """

    examples: Examples
    router: Router
    decisions: Sequence[Decision]
    evaluation: Evaluation
    rankings: Sequence[Ranking]
    rows_left_out: Mapping[str, str]
    neighbourhood: Neighbourhood
    pricing: Pricing | None
    champion: Router | None
    params: EvaluateParams

    def metrics(
        self,
        data: DataSummary,
        gate: Gate | None,
        candidates: Sequence[Mapping[str, Any]],
        test_uses: int | None = None,
    ) -> dict[str, Any]:
        """Return the content of `metrics.json`.

        Parameters
        ----------
        data : DataSummary
        gate : Gate or None
            None where no gate was asked.
        candidates : sequence of mapping
            What training tried; empty where an existing artifact is judged on other rows.
        test_uses : int or None
            How often these rows were used for a choice or shown, this time included, where counted.
        """
        manifest = self.router.classifier.manifest
        latencies = self._latencies()
        p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
        return {
            "querytier": version("querytier"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "source": data.source,
            "n": row_counts(data, self.examples),
            "quarantined": data.quarantined,
            "labels": _labels(data),
            "model": _model(manifest),
            "rows": [row.record() for row in self.evaluation.rows],
            "rows_left_out": dict(self.rows_left_out),
            "mean_scores": {
                name: estimate.record() for name, estimate in self.evaluation.mean_scores.items()
            },
            "mean_costs": {
                name: estimate.record() for name, estimate in self.evaluation.mean_costs.items()
            },
            "operating_point": {
                "threshold": manifest.threshold,
                "frontier_rate": self.evaluation.rows[0].frontier_rate.value,
                "target_frontier_rate": manifest.metrics["target_frontier_rate"],
            },
            "keyword_heuristic_as_published": _keyword_as_published(self.examples),
            "ece_when_calibrated_95": self.evaluation.ece_when_calibrated,
            "bootstrap": self.params.bootstrap,
            "certificate": {
                "status": manifest.certificate.status,
                "reason": manifest.certificate.reason,
                **manifest.certificate.details,
            },
            "gate": gate.record() if gate else None,
            "candidates": list(candidates),
            "latency_ms": {
                "p50": float(p50),
                "p95": float(p95),
                "p99": float(p99),
                "decisions": len(latencies),
            },
            "reasons": dict(Counter(decision.reason for decision in self.decisions)),
            "promise": promise_record(
                self.examples, self.rankings, self._resampling, routing_cost_of(self.pricing)
            ),
            "prices": self.pricing.record() if self.pricing else None,
            "champion": _champion(self.champion),
            "test_uses": test_uses,
            **self._evidence(),
        }

    def _evidence(self) -> dict[str, Any]:
        """Return what a sceptic asks for: calibration, slices, mistakes."""
        probabilities = self.rankings[0].probabilities
        assert probabilities is not None
        frontier = np.array([decision.tier == "frontier" for decision in self.decisions])
        labels = self.examples.needs_frontier
        return {
            "calibration": calibration_scores(probabilities, labels, self._resampling).record(),
            "slices": slice_record(self.examples, frontier),
            "mistakes": mistakes_record(
                self.examples,
                self.rankings[0],
                frontier,
                self.neighbourhood,
                self.params.mistakes,
            ),
        }

    def plots(self) -> dict[str, str]:
        """Return the report's pictures by name, each an `<svg>` element."""
        probabilities = self.rankings[0].probabilities
        rate = self.evaluation.rows[0].frontier_rate.value
        assert rate is not None
        assert probabilities is not None
        labels = self.examples.needs_frontier
        threshold = self.router.classifier.manifest.threshold
        return {
            "gain": gain_plot(
                self.examples,
                self.rankings,
                rate,
                replicates=self.params.bootstrap,
                seed=self.params.seed,
            ),
            "reliability": reliability_plot(probabilities, labels, self.examples.group),
            "scores": score_plot(self.rankings[0].scores, labels, threshold),
        }

    def write(self, metrics: Mapping[str, Any], out: Path, artifact: Path) -> dict[str, str]:
        """Write the files of `REPORT_FILES`; return the plots of the report."""
        plots = self.plots()
        text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
        contents = (
            text + "\n",
            render_report(metrics, plots, str(artifact)),
            render_markdown(metrics),
            render_model_card(metrics),
        )
        for name, content in zip(REPORT_FILES, contents, strict=True):
            with atomic_file(out / name) as scratch:
                scratch.write_text(content, "utf-8")
        return plots

    @property
    def _resampling(self) -> Resampling:
        return Resampling(self.examples.group.tolist(), self.params.bootstrap, self.params.seed)

    def _latencies(self) -> Floats:
        """Decide some queries once more, one after the other, with nothing else under way."""
        queries = self.examples.query[: self.params.latency_decisions]
        return np.array([self.router.decide(query).latency_ms for query in queries])


def assess(
    router: Router,
    asked: Labelled,
    known: Labelled,
    learned: Sequence[Ranking],
    rows_left_out: Mapping[str, str],
    *,
    base_rate: float,
    params: EvaluateParams,
    champion: Router | None = None,
) -> Assessment:
    """Let an artifact decide labelled rows, and compare it with the baselines.

    Parameters
    ----------
    router : Router
    asked : Labelled, length n
        The rows, with embeddings.
    known : Labelled
        Where neighbours of the worst mistakes are looked for; from the same encoder.
    learned : sequence of Ranking
        The baselines that were fitted.
    rows_left_out : mapping of str to str
        Those that could not be, and why.
    base_rate : float
        Mean label of the training rows, what a constant predicts.
    params : EvaluateParams
    champion : Router, optional
        Gets a row of its own.
    """
    pricing = Pricing.of(asked.examples, params.prices)
    examples = asked.examples if pricing is None else pricing.examples
    decisions = decide_all(router, examples.query.tolist())
    classifier = _ranking("classifier", decisions, "its training rows")
    rankings = [
        classifier,
        *_champion_rankings(champion, examples),
        *unfitted_rankings(examples, classifier, base_rate, params.seed),
        *learned,
        oracle(examples),
    ]
    evaluation = evaluate_rankings(
        examples,
        classifier,
        rankings[1:],
        threshold=router.classifier.manifest.threshold,
        replicates=params.bootstrap,
        seed=params.seed,
        routing_cost=routing_cost_of(pricing),
    )
    return Assessment(
        examples,
        router,
        decisions,
        evaluation,
        rankings,
        rows_left_out,
        Neighbourhood(known.examples, known.embeddings, asked.embeddings),
        pricing,
        champion,
        params,
    )


def _ranking(name: str, decisions: Sequence[Decision], fitted_on: str) -> Ranking:
    scores = np.array([_or_tier(decision.decision_score, decision) for decision in decisions])
    probabilities = np.array([_or_tier(decision.p_frontier, decision) for decision in decisions])
    return Ranking(name, scores, probabilities, fitted_on)


def _champion_rankings(champion: Router | None, examples: Examples) -> list[Ranking]:
    if champion is None:
        return []
    decisions = decide_all(champion, examples.query.tolist())
    return [_ranking("champion", decisions, "its own training rows")]


def unfitted_rankings(
    examples: Examples, classifier: Ranking, base_rate: float, seed: int
) -> list[Ranking]:
    """Return the baselines that learn nothing of single queries.

    Parameters
    ----------
    examples : Examples, length n
    classifier : Ranking
        Whose decisions are shuffled.
    base_rate : float
        What a constant predicts.
    seed : int
        Of the shuffle.
    """
    return [
        Ranking("keyword_heuristic", keyword_scores(examples.query), None, _NOT_FITTED),
        Ranking("length", length_scores(examples.query), None, _NOT_FITTED),
        probability_ranking("constant", np.full(len(examples), base_rate), "the mean label"),
        shuffled_decisions(classifier, seed),
    ]


def _or_tier(score: float | None, decision: Decision) -> float:
    """Return a score; without one, that of the tier that answered instead."""
    if score is not None:
        return score
    return 1.0 if decision.tier == "frontier" else 0.0


def row_counts(data: DataSummary, evaluated: Examples) -> dict[str, int]:
    """Return how many rows there were, by what became of them."""
    return {
        "rows": data.rows,
        "usable": data.usable,
        "unlabelled": sum(data.unlabelled.values()),
        "quarantined": sum(data.quarantined.values()),
        **data.roles,
        "evaluated": len(evaluated),
        "evaluated_groups": len(set(evaluated.group)),
    }


def _champion(champion: Router | None) -> dict[str, Any] | None:
    if champion is None:
        return None
    manifest = champion.classifier.manifest
    return {"model_version": manifest.model_version, "threshold": manifest.threshold}


def _model(manifest: Manifest) -> dict[str, Any]:
    return {
        "model_version": manifest.model_version,
        "chosen": manifest.metrics["chosen"],
        "chosen_by": manifest.metrics["chosen_by"],
        "decision_score": manifest.decision_score,
        "encoder": manifest.encoder["name"],
        "precision": manifest.precision,
        "parity_max_difference": manifest.parity["max_difference"],
        "calibration": {
            "rows": manifest.metrics["calibration_rows"],
            "reason": manifest.metrics.get("calibration_reason"),
            "venn_abers": manifest.metrics.get("venn_abers"),
        },
    }


def _labels(data: DataSummary) -> dict[str, Any]:
    rules, sources = data.label_rules, data.label_sources
    return {
        "rules": list(rules.rules),
        "ok_threshold": rules.ok_threshold,
        "ok_thresholds": dict(rules.ok_thresholds),
        "margin": rules.margin,
        "sources": sources,
        "biases": {rule: bias for rule, bias in RULE_BIASES.items() if rule in sources},
        "unlabelled": data.unlabelled,
        "shares": data.shares,
        "needs_frontier": data.needs_frontier,
        "near_duplicates": data.near_duplicates,
        "fingerprint": data.fingerprint,
    }


def _keyword_as_published(examples: Examples) -> dict[str, float | None]:
    """Return what the keyword heuristic does at its own threshold."""
    frontier = keyword_scores(examples.query) > KEYWORD_THRESHOLD
    labels = examples.needs_frontier
    routed = np.where(frontier, examples.frontier_score, examples.cheap_score)
    retained = routed.mean() / examples.frontier_score.mean() if examples.scored else None
    return {
        "threshold": KEYWORD_THRESHOLD,
        "frontier_rate": float(frontier.mean()),
        "recall": float(labels[frontier].sum() / labels.sum()) if labels.any() else 0.0,
        "quality_retained": None if retained is None else float(retained),
    }
