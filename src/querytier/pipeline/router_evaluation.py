"""An artifact's decisions on labelled rows, beside the baselines: metrics and reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.evaluation import Evaluation, evaluate_rankings
from querytier.eval.heuristics import (
    keyword_scores,
    length_scores,
)
from querytier.eval.intervals import Resampling
from querytier.eval.rankings import Ranking, oracle, probability_ranking, shuffled_decisions
from querytier.eval.report.mistakes import Neighbourhood
from querytier.eval.report.pages import render_markdown, render_model_card, render_report
from querytier.eval.report.plots import gain_plot, reliability_plot, score_plot
from querytier.files import atomic_file
from querytier.pipeline.params import EvaluateParams
from querytier.pipeline.price_params import Pricing, routing_cost_of
from querytier.pipeline.scoring import decide_all
from querytier.serve import Decision, Router
from querytier.training.baselines import Labelled

__all__ = ["REPORT_FILES", "Assessment", "assess", "unfitted_rankings"]

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
    def resampling(self) -> Resampling:
        """The bootstrap over groups that all intervals share."""
        return Resampling(self.examples.group.tolist(), self.params.bootstrap, self.params.seed)


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
