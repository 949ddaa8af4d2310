"""A list of the queries to send to both tiers next: logs in, `to_label.jsonl` out."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.column_map import PLANNED, ColumnMap
from querytier.data.example import Example, example_from
from querytier.data.examples import Examples
from querytier.data.ingest.engines import LocalEngine
from querytier.data.ingest.log_batches import LogAccount, log_batches
from querytier.data.ingest.preparing import EXAMPLES
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.data.near_duplicates import near_duplicate_links
from querytier.data.splits import joined_groups
from querytier.data.text_view import hashed
from querytier.errors import LogError, UsageError
from querytier.eval.active_learning import (
    REASONS,
    Candidates,
    Choice,
    Covered,
    Reason,
    choose_queries,
)
from querytier.files import atomic_file
from querytier.loop.pair_labels import LEARNED
from querytier.pipeline.param_sections import PlanLabelsParams
from querytier.pipeline.params import Params
from querytier.pipeline.price_params import Pricing
from querytier.pipeline.scoring import embed_all, load_to_judge, score_all
from querytier.serve import Router

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LabelPlan", "plan_label_list"]

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LabelPlan:
    """What is to be labelled next.

    Attributes
    ----------
    examples : Examples
        The queries that there were to choose from.
    decision_scores : ndarray of float64, shape (n,)
        Of these.
    choices : list of Choice
        In the order in which they should be labelled.
    budget : float
        In dollars.
    estimated : bool
        Whether costs are by estimated tokens.
    labelled : int
        Queries that have a label already, as far as is known.
    """

    examples: Examples
    decision_scores: Floats
    choices: list[Choice]
    budget: float
    estimated: bool
    labelled: int

    @property
    def cost(self) -> float:
        """Dollars that the labels cost."""
        return sum(one.cost for one in self.choices)

    def lines(self) -> list[str]:
        """Return what there is to say of it."""
        counts = Counter(one.reason for one in self.choices)
        by_reason = ", ".join(f"{name} {counts[name]}" for name in REASONS if counts[name])
        estimated = " (tokens estimated)" if self.estimated else ""
        cost = f"${self.cost:.2f} of ${self.budget:.2f}{estimated}"
        chosen = f"{len(self.choices)} of {len(self.examples)} queries"
        return [
            f"{chosen} for {cost}: {by_reason or 'none'}",
            f"compared with {self.labelled} queries that have a label",
        ]

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield a log record a choice, whose scores are to be filled in."""
        for choice in self.choices:
            told = {
                name: str(getattr(self.examples, name)[choice.row])
                for name in ("id", "query", "domain", "language", "source", "time")
            }
            yield {
                **{name: text for name, text in told.items() if text},
                "group": f"planned:{self.examples.group[choice.row]}",
                "cheap_score": None,
                "frontier_score": None,
                "selected": PLANNED,
                "reason": choice.reason,
                "why": choice.why,
                "cost": round(choice.cost, 8),
                "decision_score": round(float(self.decision_scores[choice.row]), 6),
            }

    def write(self, path: Path) -> None:
        """Write the records, one JSON object a line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as scratch, scratch.open("w", encoding="utf-8") as file:
            for record in self.records():
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def plan_label_list(
    sources: Sequence[LogSource], artifact: Path, budget: float, out: Path, params: Params
) -> LabelPlan:
    """Choose the queries of logs whose labels would teach the most for a budget.

    What is labelled already is told by the run around the artifact, where there is one, and by the
    logs: their records with a label are not chosen.

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
        Section plan_labels; prices are those of evaluate.prices.

    Raises
    ------
    UsageError
        If there are no prices, or the budget is not above 0.
    LogError
        If the logs cannot be read, or have no query without a label.
    ArtifactError
        If the artifact does not load.
    """
    if not budget > 0:
        raise UsageError(f"--budget {budget:g}: give dollars above 0")
    section, router = params.plan_labels, load_to_judge(artifact)
    known, read = _labelled_before(artifact), _read(sources, out, params)
    covered = Examples.concatenated([*known, read.where(read.labelled)])
    waiting = _sampled(read.where(~read.labelled), section)
    if not len(waiting):
        raise LogError("the logs have no query without a label; give logs of unlabelled traffic")
    costs, estimated = _costs(waiting, params)
    groups = _groups(waiting, covered, params)
    waiting = replace(waiting, group=groups[: len(waiting)])
    scores = score_all(router, waiting.views()).decision_scores
    embeddings = _unit(router, waiting)
    choices = choose_queries(
        Candidates(waiting.group, embeddings, scores, costs, waiting.domain),
        Covered(groups[len(waiting) :], _unit(router, covered), covered.domain),
        threshold=router.classifier.manifest.threshold,
        budget=budget,
        shares=_shares(section),
        seed=section.seed,
    )
    plan = LabelPlan(waiting, scores, choices, budget, estimated, len(covered))
    plan.write(out)
    return plan


def _labelled_before(artifact: Path) -> list[Examples]:
    """Return what the run around an artifact has labels of; nothing where there is no run."""
    folder = artifact.parent / "data"
    return [
        Examples.read_parquet(folder / name)
        for name in (EXAMPLES, LEARNED)
        if (folder / name).is_file()
    ]


def _read(sources: Sequence[LogSource], out: Path, params: Params) -> Examples:
    out.parent.mkdir(parents=True, exist_ok=True)
    quarantine = out.with_name(f"{out.name}.quarantine.jsonl")
    account = LogAccount(quarantine, params.prepare.max_bad_share)
    logs = [_Log(source, source.columns()) for source in sources]
    with account:
        batches = LocalEngine().batches(_batches, logs)
        found = [Examples.of_table(batch) for batch in batches if account.take(batch)]
        account.check(", ".join(source.path.name for source in sources))
    return Examples.concatenated([Examples.of([]), *found])


@dataclass(frozen=True)
class _Log:
    source: LogSource
    columns: ColumnMap


def _batches(log: _Log) -> "Iterator[pa.RecordBatch]":
    make = partial(_example, log.source)
    return log_batches(log.source, log.columns, make, _table)


def _example(source: LogSource, values: Mapping[str, object], default_id: str) -> Example:
    return example_from(values, LabelRules(), default_id, source.pair)


def _table(rows: list[Example]) -> "pa.Table":
    return Examples.of(rows).table()


def _sampled(examples: Examples, section: PlanLabelsParams) -> Examples:
    """Return as many queries as are looked at, those that chance picks."""
    random = np.random.default_rng(section.seed)
    mask = np.zeros(len(examples), dtype=np.bool_)
    mask[random.permutation(len(examples))[: section.most_queries]] = True
    return examples.where(mask)


def _costs(examples: Examples, params: Params) -> tuple[Floats, bool]:
    """Return what both answers to each query cost; a logged cost is that of one tier's answer."""
    if params.evaluate.prices is None:
        raise UsageError(
            "no prices to keep a budget by: give --price-cheap IN,OUT and --price-frontier IN,OUT "
            "in dollars a million tokens, or evaluate.prices in a params file"
        )
    pricing = Pricing.of(examples, params.evaluate.prices)
    assert pricing is not None
    costs = pricing.examples.cheap_cost + pricing.examples.frontier_cost
    if not (costs > 0).all():
        raise UsageError(
            "the price table leaves queries without a cost, or with none: give --output-tokens, or "
            "output_tokens of both tiers in evaluate.prices, and prices above 0"
        )
    return costs, pricing.estimated_rows > 0


def _groups(waiting: Examples, covered: Examples, params: Params) -> NDArray[np.object_]:
    """Return one group for near copies; first those that wait, then those that have a label."""
    views = [*waiting.views(), *covered.views()]
    hashes = np.array([hashed(view) for view in views], dtype=np.uint64)
    threshold, links = params.prepare.near_duplicate_threshold, None
    if threshold is not None and len(views) <= params.prepare.near_duplicate_rows:
        links = near_duplicate_links(views, threshold)
    joined = joined_groups(hashes, hashes, links)
    return np.array([f"{group:016x}" for group in joined.tolist()], dtype=object)


def _unit(router: Router, examples: Examples) -> Vectors:
    if not len(examples):
        return np.empty((0, 1), dtype=np.float32)
    embeddings = embed_all(router, examples.views())
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, 1e-12), dtype=np.float32)


def _shares(section: PlanLabelsParams) -> dict[Reason, float]:
    return {reason: float(getattr(section, reason)) for reason in REASONS}
