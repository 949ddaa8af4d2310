"""The content of `metrics.json`: everything that an evaluation measured."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from querytier.classifier.manifest import Manifest
from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.labelling import RULE_BIASES
from querytier.eval.calibration import calibration_scores
from querytier.eval.gate.checks import Gate
from querytier.eval.intervals import Estimate
from querytier.eval.rankings import KEYWORD_THRESHOLD, keyword_scores
from querytier.eval.report.budget import claim_record
from querytier.eval.report.mistakes import mistakes_record
from querytier.eval.slices import slice_record
from querytier.files import stamp
from querytier.pipeline.evaluation_run import RouterEvaluation
from querytier.serve import Router

__all__ = ["metrics_of", "row_counts"]


def metrics_of(
    evaluated: RouterEvaluation,
    data: DataSummary,
    gate: Gate | None,
    candidates: Sequence[Mapping[str, Any]],
    test_uses: int | None = None,
) -> dict[str, Any]:
    """Return the content of `metrics.json`.

    Parameters
    ----------
    evaluated : RouterEvaluation
    data : DataSummary
    gate : Gate or None
        None if no gate was applied.
    candidates : sequence of mapping
        The candidates of training; empty for an existing artifact on other rows.
    test_uses : int or None
        Number of evaluations on these rows, this one included; None if they are not counted.
    """
    manifest = evaluated.router.classifier.manifest
    certificate = manifest.certificate
    return {
        **stamp(),
        "source": data.source,
        "n": row_counts(data, evaluated.examples),
        "quarantined": data.quarantined,
        "labels": _labels(data),
        "model": _model(manifest),
        "rows": [row.to_dict() for row in evaluated.evaluation.rows],
        "rows_left_out": dict(evaluated.rows_left_out),
        "mean_scores": _records(evaluated.evaluation.mean_scores),
        "mean_costs": _records(evaluated.evaluation.mean_costs),
        "operating_point": {
            "threshold": manifest.threshold,
            "frontier_rate": evaluated.evaluation.rows[0].frontier_rate.value,
            "target_frontier_rate": manifest.metrics["target_frontier_rate"],
        },
        "keyword_heuristic_as_published": _keyword_as_published(evaluated.examples),
        "ece_when_calibrated_95": evaluated.evaluation.ece_when_calibrated,
        "bootstrap": evaluated.params.bootstrap,
        "certificate": {
            "status": certificate.status,
            "reason": certificate.reason,
            **certificate.details,
        },
        "gate": gate.to_dict() if gate else None,
        "candidates": list(candidates),
        "latency_ms": _latency(evaluated),
        "reasons": dict(Counter(decision.reason for decision in evaluated.decisions)),
        # The published claim of 78%, not a certificate; the key is kept for readers of older files.
        "promise": claim_record(
            evaluated.examples,
            evaluated.rankings,
            evaluated.resampling,
            evaluated.params.routing_cost,
        ),
        "prices": _prices(evaluated),
        "champion": _champion(evaluated.champion),
        "test_uses": test_uses,
        **_evidence(evaluated),
    }


def _evidence(evaluated: RouterEvaluation) -> dict[str, Any]:
    """Return the calibration, the slices and the worst mistakes."""
    probabilities = evaluated.rankings[0].probabilities
    assert probabilities is not None
    frontier = np.array([decision.tier == "frontier" for decision in evaluated.decisions])
    labels = evaluated.examples.needs_frontier
    return {
        "calibration": _records(calibration_scores(probabilities, labels, evaluated.resampling)),
        "slices": slice_record(evaluated.examples, frontier),
        "mistakes": mistakes_record(
            evaluated.examples,
            evaluated.rankings[0],
            frontier,
            evaluated.neighbourhood,
            evaluated.params.mistakes,
        ),
    }


def _records(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in estimates.items()}


def _prices(evaluated: RouterEvaluation) -> dict[str, Any] | None:
    """Return the price table, and the number of rows with estimates from it."""
    if evaluated.params.prices is None:
        return None
    record = {"currency": "USD", "estimated_rows": evaluated.estimated_rows}
    return {**record, **asdict(evaluated.params.prices)}


def _latency(evaluated: RouterEvaluation) -> dict[str, float | int]:
    """Decide some queries again, one by one, because all cores were busy the first time."""
    queries = evaluated.examples.query[: evaluated.params.latency_decisions]
    latencies = [evaluated.router.decide(query).latency_ms for query in queries]
    percentiles = {f"p{at}": float(np.percentile(latencies, at)) for at in (50, 95, 99)}
    return {**percentiles, "decisions": len(latencies)}


def row_counts(data: DataSummary, evaluated: Examples) -> dict[str, int]:
    """Return how many rows are usable, unlabelled, in quarantine, and in each split."""
    return {
        "rows": data.rows,
        "usable": data.usable,
        "unlabelled": sum(data.unlabelled.values()),
        "quarantined": sum(data.quarantined.values()),
        **data.splits,
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
    """Return the keyword heuristic's results at its own threshold."""
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
