"""A router's decisions on labelled rows against the baselines: metrics, reports, MLflow records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from querytier.data.examples import Examples
from querytier.eval.evaluation import Evaluation, Row, evaluate_rankings
from querytier.eval.intervals import Resampling
from querytier.eval.prices import with_costs
from querytier.eval.rankings import (
    Ranking,
    keyword_scores,
    length_scores,
    oracle,
    probability_ranking,
    shuffled_decisions,
)
from querytier.eval.report.mistakes import Neighbourhood
from querytier.eval.report.pages import render_markdown, render_model_card, render_report
from querytier.eval.report.plots import gain_plot, reliability_plot, score_plot
from querytier.files import atomic_file, write_json
from querytier.pipeline.params import EvaluateParams
from querytier.pipeline.scoring import decide_all, ranking_by, ranking_of
from querytier.serve import Decision, Router
from querytier.tracking.tracker import Tracker
from querytier.training.baselines import LabelledFeatures

__all__ = [
    "RouterEvaluation",
    "evaluate_router",
    "log_rows",
    "unfitted_rankings",
]

_METRICS = "metrics.json"
_NOT_FITTED = "nothing"


@dataclass(frozen=True, eq=False)
class RouterEvaluation:
    """A router's decisions on labelled rows, and the baselines to compare them with.

    Attributes
    ----------
    examples : Examples, length n
    router : Router
    decisions : sequence of Decision, length n
    evaluation : Evaluation
    rankings : sequence of Ranking
        Those of the classifier, then of the baselines, in the order of `evaluation.rows`.
    rows_left_out : dict of str to str
        Baselines that could not be computed, and why.
    neighbourhood : Neighbourhood
        Labelled rows in which to search for the neighbours of mistakes.
    estimated_rows : int
        Number of rows with a cost from the price table and estimated tokens.
    champion : Router or None
        Another classifier with a row of its own.
    params : EvaluateParams
    """

    examples: Examples
    router: Router
    decisions: Sequence[Decision]
    evaluation: Evaluation
    rankings: Sequence[Ranking]
    rows_left_out: Mapping[str, str]
    neighbourhood: Neighbourhood
    estimated_rows: int
    champion: Router | None
    params: EvaluateParams

    def plots(self) -> dict[str, str]:
        """Return the report's plots by name, each an `<svg>` element."""
        classifier = self.rankings[0]
        rate = self.evaluation.rows[0].frontier_rate.value
        assert rate is not None
        assert classifier.probabilities is not None
        labels = self.examples.needs_frontier
        # A fallback has an infinite score, which a histogram has no bin for.
        scored = np.isfinite(classifier.scores)
        return {
            "gain": gain_plot(
                self.examples,
                self.rankings,
                rate,
                replicates=self.params.bootstrap,
                seed=self.params.seed,
            ),
            "reliability": reliability_plot(classifier.probabilities, labels, self.examples.group),
            "scores": score_plot(
                classifier.scores[scored],
                labels[scored],
                self.router.classifier.manifest.threshold,
            ),
        }

    def write(
        self, metrics: Mapping[str, Any], out: Path, artifact: Path, tracker: Tracker
    ) -> None:
        """Write `metrics.json`, both reports and the model card to `out`, and log all in MLflow."""
        plots = self.plots()
        # Render everything before writing anything, so that an error leaves the old files complete.
        pages = {
            "report.html": render_report(metrics, plots, str(artifact)),
            "report.md": render_markdown(metrics),
            "model_card.md": render_model_card(metrics),
        }
        write_json(out / _METRICS, metrics)
        for name, page in pages.items():
            with atomic_file(out / name) as scratch:
                scratch.write_text(page, "utf-8")
        log_rows(tracker, self.evaluation.rows)
        tracker.log_files([out / name for name in (_METRICS, *pages)])
        # MLflow copies files, and the plots are not files yet.
        with TemporaryDirectory() as folder:
            for name, svg in plots.items():
                Path(folder, f"{name}.svg").write_text(svg, "utf-8")
            tracker.log_files(sorted(Path(folder).iterdir()), "plots")

    @property
    def resampling(self) -> Resampling:
        """The bootstrap over groups that all intervals share."""
        return Resampling(self.examples.group.tolist(), self.params.bootstrap, self.params.seed)


def evaluate_router(
    router: Router,
    rows: LabelledFeatures,
    known: LabelledFeatures,
    learned: Sequence[Ranking],
    rows_left_out: Mapping[str, str],
    *,
    base_rate: float,
    params: EvaluateParams,
    champion: Router | None = None,
) -> RouterEvaluation:
    """Let a router decide labelled rows, and compare its decisions with the baselines.

    Parameters
    ----------
    router : Router
    rows : LabelledFeatures, length n
        With embeddings.
    known : LabelledFeatures
        Rows in which to search for the neighbours of the worst mistakes; embedded by the same
        encoder.
    learned : sequence of Ranking
        The fitted baselines.
    rows_left_out : mapping of str to str
        Baselines that could not be fitted, and why.
    base_rate : float
        Mean label of the training rows, the prediction of the baseline "constant".
    params : EvaluateParams
    champion : Router, optional
        Gets a row of its own.
    """
    examples, estimated_rows = with_costs(rows.examples, params.prices)
    # Test the artifact, not the classifier in memory: a router also gets quantisation, text view
    # and fallbacks.
    decisions = decide_all(router, examples.query.tolist())
    classifier = ranking_of("classifier", decisions)
    rankings = [
        classifier,
        *([] if champion is None else [ranking_by(champion, examples, "champion")]),
        *unfitted_rankings(examples, classifier, base_rate, params.seed),
        *learned,
        # A ranking by the known outcomes is the upper bound for any classifier on these rows.
        oracle(examples),
    ]
    evaluation = evaluate_rankings(
        examples,
        classifier,
        rankings[1:],
        threshold=router.classifier.manifest.threshold,
        replicates=params.bootstrap,
        seed=params.seed,
        routing_cost=params.routing_cost,
    )
    return RouterEvaluation(
        examples,
        router,
        decisions,
        evaluation,
        rankings,
        rows_left_out,
        Neighbourhood(known.examples, known.embeddings, rows.embeddings),
        estimated_rows,
        champion,
        params,
    )


def unfitted_rankings(
    examples: Examples, classifier: Ranking, base_rate: float, seed: int
) -> list[Ranking]:
    """Return the baselines that are not fitted to queries.

    Parameters
    ----------
    examples : Examples, length n
    classifier : Ranking
        Its decisions are shuffled for the baseline "shuffled_decisions".
    base_rate : float
        Prediction of the baseline "constant".
    seed : int
        Seed of the shuffle.
    """
    return [
        Ranking("keyword_heuristic", keyword_scores(examples.query), None, _NOT_FITTED),
        Ranking("length", length_scores(examples.query), None, _NOT_FITTED),
        probability_ranking("constant", np.full(len(examples), base_rate), "the mean label"),
        shuffled_decisions(classifier, seed),
    ]


def log_rows(tracker: Tracker, rows: Sequence[Row]) -> None:
    """Log the metrics of the classifier and of the baselines, with their intervals."""
    for row in rows:
        for name in (
            "auroc",
            "average_precision",
            "apgr",
            "cpt50",
            "cpt80",
            "brier",
            "ece",
            "recall",
            "quality_retained",
        ):
            estimate = getattr(row, name)
            key = f"test_{name}" if row.name == "classifier" else f"baseline_{row.name}.{name}"
            tracker.log_metrics(
                {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
            )
