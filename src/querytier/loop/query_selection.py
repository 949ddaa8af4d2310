"""Select the queries to send to both tiers next: logs in, a `.jsonl` file of log records out."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats
from querytier.data.column_map import PLANNED
from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import EXAMPLES, read_all
from querytier.data.ingest.sources import LogSource
from querytier.data.leakage import near_duplicate_groups
from querytier.errors import LogError, UsageError
from querytier.eval.active_learning import REASONS, Choice, Queries, choose_queries
from querytier.eval.prices import with_costs
from querytier.files import atomic_file
from querytier.loop.pair_labels import LEARNED
from querytier.pipeline.params import Params
from querytier.pipeline.scoring import embed_all, load_for_evaluation, score_all
from querytier.serve import Router

__all__ = ["QuerySelection", "select_from_logs"]


@dataclass(frozen=True, eq=False)
class QuerySelection:
    """The queries to label next.

    Attributes
    ----------
    examples : Examples
        The unlabelled queries to choose from.
    choices : list of Choice
        Most urgent first.
    decision_scores : list of float
        One for each choice.
    budget : float
        In dollars.
    estimated : bool
        Whether costs are based on estimated tokens.
    labelled : int
        Number of queries that already have a label.
    """

    examples: Examples
    choices: list[Choice]
    decision_scores: list[float]
    budget: float
    estimated: bool
    labelled: int

    def lines(self) -> list[str]:
        """Return the summary for a terminal."""
        counts = Counter(choice.reason for choice in self.choices)
        by_reason = ", ".join(f"{name} {counts[name]}" for name in REASONS if counts[name])
        cost = sum(choice.cost for choice in self.choices)
        estimated = " (tokens estimated)" if self.estimated else ""
        chosen = f"{len(self.choices)} of {len(self.examples)} queries"
        return [
            f"{chosen} for ${cost:.2f} of ${self.budget:.2f}{estimated}: {by_reason or 'none'}",
            f"compared with {self.labelled} queries that have a label",
        ]

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield a log record for each choice, with empty scores to be filled in."""
        for choice, decision_score in zip(self.choices, self.decision_scores, strict=True):
            known = {
                name: str(getattr(self.examples, name)[choice.row])
                for name in ("id", "query", "domain", "language", "source", "time")
            }
            yield {
                **{name: text for name, text in known.items() if text},
                "group": f"planned:{self.examples.group[choice.row]}",
                "cheap_score": None,
                "frontier_score": None,
                # Such rows are used for training, but never to calibrate, certify or test: they
                # were not drawn at random, so a rate among them says nothing about the traffic.
                "selected": PLANNED,
                "reason": choice.reason,
                "why": choice.why,
                "cost": round(choice.cost, 8),
                "decision_score": round(decision_score, 6),
            }

    def write(self, path: Path) -> None:
        """Write the records, one JSON object on each line."""
        with atomic_file(path) as scratch, scratch.open("w", encoding="utf-8") as file:
            for record in self.records():
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def select_from_logs(
    sources: Sequence[LogSource], artifact: Path, budget: float, out: Path, params: Params
) -> QuerySelection:
    """Select the queries whose labels would be worth the most for a budget.

    Queries that have a label are not selected: those of the run around the artifact, if there is
    one, and those of the logs themselves.

    Parameters
    ----------
    sources : sequence of LogSource
        Logs with `query`.
    artifact : Path
    budget : float
        In dollars, above 0.
    out : Path
        The `.jsonl` file; bad records go to `OUT.quarantine.jsonl`.
    params : Params
        Its section select_queries, and evaluate.prices.

    Raises
    ------
    UsageError
        If there are no prices, or the budget is not above 0.
    LogError
        If the logs cannot be read, or every query has a label.
    ArtifactError
        If the artifact does not load.
    """
    if not budget > 0:
        raise UsageError(f"--budget {budget:g}: give dollars above 0")
    section, router = params.select_queries, load_for_evaluation(artifact)
    out.parent.mkdir(parents=True, exist_ok=True)
    reading = Reading(max_bad_share=params.prepare.max_bad_share, needs_labels=False)
    read, _ = read_all(sources, reading, out.with_name(f"{out.name}.quarantine.jsonl"))
    labelled = Examples.concatenated([*_labelled_before(artifact), read.where(read.labelled)])
    unlabelled = _sampled(read.where(~read.labelled), section.most_queries, section.seed)
    if not len(unlabelled):
        raise LogError("every query of the logs has a label; give logs of unlabelled traffic")
    # Check prices before embedding: a mistake in them should not cost minutes.
    costs, estimated = _costs(unlabelled, params)
    views = [*unlabelled.views(), *labelled.views()]
    few = len(views) <= params.prepare.near_duplicate_rows
    threshold = params.prepare.near_duplicate_threshold if few else None
    groups = near_duplicate_groups(views, threshold)
    here = slice(len(unlabelled)), slice(len(unlabelled), None)
    domains = unlabelled.domain, labelled.domain
    queries = [
        Queries(groups[rows], _embeddings(router, views[rows]), domain)
        for rows, domain in zip(here, domains, strict=True)
    ]
    # Groups join queries of both, so a near duplicate of a labelled query is never selected.
    choices = choose_queries(
        queries[0],
        costs,
        queries[1],
        budget=budget,
        shares={reason: getattr(section, reason) for reason in REASONS},
        seed=section.seed,
    )
    scores = score_all(router, [views[one.row] for one in choices]).decision_scores.tolist()
    unlabelled = replace(unlabelled, group=groups[: len(unlabelled)])
    selection = QuerySelection(unlabelled, choices, scores, budget, estimated, len(labelled))
    selection.write(out)
    return selection


def _labelled_before(artifact: Path) -> list[Examples]:
    """Return the labelled examples of the run around an artifact; nothing without a run."""
    paths = [artifact.parent / "data" / name for name in (EXAMPLES, LEARNED)]
    return [Examples.read_parquet(path) for path in paths if path.is_file()]


def _sampled(examples: Examples, most: int, seed: int) -> Examples:
    mask = np.zeros(len(examples), dtype=np.bool_)
    mask[np.random.default_rng(seed).permutation(len(examples))[:most]] = True
    return examples.where(mask)


def _costs(examples: Examples, params: Params) -> tuple[Floats, bool]:
    """Return the cost of both answers to each query, and whether any of them is an estimate."""
    # A log has the cost of the tier that answered, at most; the other needs the price table.
    if params.evaluate.prices is None:
        raise UsageError(
            "a budget needs prices: give --price-cheap IN,OUT and --price-frontier IN,OUT in "
            "dollars per million tokens, or evaluate.prices in a params file"
        )
    priced, estimated_rows = with_costs(examples, params.evaluate.prices)
    costs = priced.cheap_cost + priced.frontier_cost
    if not (costs > 0).all():
        raise UsageError(
            "the price table gives some queries no cost, or a cost of 0: give --output-tokens, or "
            "output_tokens of both tiers in evaluate.prices, and prices above 0"
        )
    return costs, estimated_rows > 0


def _embeddings(router: Router, views: Sequence[str]) -> NDArray[np.float32]:
    """Return embeddings of length 1, shape (n, dimension)."""
    if not views:
        return np.empty((0, 1), dtype=np.float32)
    embeddings = embed_all(router, views)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, 1e-12), dtype=np.float32)
