"""Batch decisions, through the same code that serves single ones."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.runtime import Classifier, GraphOutputs
from querytier.data.column_map import ColumnMap
from querytier.data.examples import Examples
from querytier.data.ingest.engines import Engine, LocalEngine
from querytier.data.ingest.log_batches import LogAccount, log_batches
from querytier.data.ingest.sources import LogSource
from querytier.data.parallel import map_threads
from querytier.data.values import query_of, text_of
from querytier.errors import UsageError
from querytier.eval.rankings import Ranking
from querytier.files import atomic_file
from querytier.serve import Decision, Router

if TYPE_CHECKING:
    import pyarrow as pa

    from querytier.training.baselines import LabelledFeatures

__all__ = [
    "Scored",
    "data_fingerprint",
    "decide_all",
    "embed_all",
    "embedded",
    "load_for_evaluation",
    "load_trained_on",
    "ranking_by",
    "ranking_of",
    "score_all",
    "score_logs",
]

_COLUMNS = ["id", "p_frontier", "decision_score", "tier"]


@dataclass(frozen=True, slots=True)
class Scored:
    """Counts of a scored log.

    Attributes
    ----------
    rows : int
    quarantined : dict of str to int
        Records that could not be scored, by reason.
    tiers, reasons : dict of str to int
        Decisions by tier and by reason.
    """

    rows: int
    quarantined: dict[str, int]
    tiers: dict[str, int]
    reasons: dict[str, int]


def load_for_evaluation(artifact: Path) -> Router:
    """Load an artifact to evaluate its classifier, even if its certificate has expired.

    `Router.load` respects the certificate: once it has expired, every query goes to the fallback
    tier and has no score, so the artifact could be neither evaluated nor certified again.

    Raises
    ------
    ArtifactError
        If the artifact does not load.
    """
    return Router(Classifier.load(artifact))


def load_trained_on(out: Path, fingerprint: str) -> Router:
    """Load the artifact of a run, and check that it was trained on the run's data.

    Parameters
    ----------
    out : Path
        The run's folder.
    fingerprint : str
        Fingerprint of its data.

    Raises
    ------
    UsageError
        If it was trained on other data.
    ArtifactError
        If the artifact does not load.
    """
    router = load_for_evaluation(out / "model")
    if data_fingerprint(router) != fingerprint:
        raise UsageError(
            f"{out / 'model'} was not trained on the data in {out / 'data'}, which were prepared "
            "again since, so it may have seen rows that are held out now. Run train and export "
            "again"
        )
    return router


def data_fingerprint(router: Router) -> str:
    """Return the fingerprint of the data that an artifact was trained on."""
    return str(router.classifier.manifest.data.get("fingerprint"))


def decide_all(router: Router, queries: Sequence[str]) -> list[Decision]:
    """Decide queries one by one, on all processors, with a progress bar."""
    return map_threads(router.decide, queries, "decide")


def score_all(router: Router, views: Sequence[str]) -> GraphOutputs:
    """Return the graph's outputs for text views, one by one, as in service."""
    scores = map_threads(router.classifier.scores, views, "score")
    return GraphOutputs(
        np.array([one.p_frontier for one in scores], dtype=np.float64),
        np.array([one.decision_score for one in scores], dtype=np.float64),
        router.classifier.manifest.threshold,
    )


def embed_all(router: Router, views: Sequence[str]) -> NDArray[np.float32]:
    """Return the embeddings of text views, from the graph, one by one; shape (n, dimension)."""
    return np.array(map_threads(router.classifier.embedding, views, "embed"))


def embedded(router: Router, examples: Examples) -> "LabelledFeatures":
    """Return examples with the embeddings of their text views, from the graph."""
    from querytier.training.baselines import LabelledFeatures

    return LabelledFeatures(examples, {"graph": embed_all(router, examples.views())})


def ranking_by(router: Router, examples: Examples, name: str) -> Ranking:
    """Return a router's ranking of examples, as in service."""
    return ranking_of(name, decide_all(router, examples.query.tolist()))


def ranking_of(name: str, decisions: Sequence[Decision]) -> Ranking:
    """Return the ranking that follows from decisions.

    Examples
    --------
    >>> from querytier.serve import Decision
    >>> cheap = Decision("cheap", None, None, None, -0.2, "fallback:empty", 0.0, "1", 1.0)
    >>> ranking_of("classifier", [cheap]).scores
    array([-inf])
    """
    return Ranking(
        name,
        np.array([_score(decision) for decision in decisions]),
        np.array([_probability(decision) for decision in decisions]),
        "its training rows",
    )


def _score(decision: Decision) -> float:
    """Return the decision score; without one, a score that leads to the same tier.

    A threshold may be any number, because gains are negative if the cheap model answers better.
    Only an infinite score is on the same side of every threshold.
    """
    if decision.decision_score is not None:
        return decision.decision_score
    return float("inf") if decision.tier == "frontier" else float("-inf")


def _probability(decision: Decision) -> float:
    """Return p_frontier; without it, 1 or 0 by the tier that answered."""
    if decision.p_frontier is not None:
        return decision.p_frontier
    return 1.0 if decision.tier == "frontier" else 0.0


def score_logs(
    sources: Sequence[LogSource],
    artifact: Path,
    out: Path,
    *,
    max_bad_share: float,
    engine: Engine | None = None,
) -> Scored:
    """Decide every query of logs and write `id, p_frontier, decision_score, tier`.

    Parameters
    ----------
    sources : sequence of LogSource
        With the field `query`. Without a field `id`, ids are `line-N`.
    artifact : Path
    out : Path
        `.csv` or `.parquet`; appears when it is complete. Records that cannot be scored go to
        `OUT.quarantine.jsonl`.
    max_bad_share : float
        Largest share of such records, in [0, 1]; above it, nothing is written.
    engine : Engine, optional
        Reads and decides; by default in this process.

    Raises
    ------
    UsageError
        If a file or a column does not exist, or `out` has another suffix.
    LogError
        If a log cannot be read, or too many records are bad.
    ArtifactError
        If the artifact does not load.
    """
    from tqdm import tqdm

    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--out {out}: write to a file that ends in .csv or .parquet")
    # Each worker loads the artifact itself; this check reports a bad one once, and immediately.
    Router.load(artifact)
    out.parent.mkdir(parents=True, exist_ok=True)
    account = LogAccount(out.with_name(f"{out.name}.quarantine.jsonl"), max_bad_share)
    tiers: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    logs = [_Log(source, source.columns(), artifact) for source in sources]
    with (
        account,
        atomic_file(out) as scratch,
        _writer(scratch, out.suffix) as write,
        tqdm(desc="decide", unit="query", disable=None) as bar,
    ):
        for batch in (engine or LocalEngine()).batches(_decision_batches, logs):
            if account.add(batch):
                write(batch.select(_COLUMNS))
                tiers.update(batch.column("tier").to_pylist())
                reasons.update(batch.column("reason").to_pylist())
                bar.update(batch.num_rows)
        account.check(", ".join(source.path.name for source in sources))
    return Scored(account.usable, dict(account.quarantined), dict(tiers), dict(reasons))


@dataclass(frozen=True)
class _Log:
    source: LogSource
    columns: ColumnMap
    artifact: Path


def _decision_batches(log: _Log) -> Iterator["pa.RecordBatch"]:
    router = Router.load(log.artifact)
    return log_batches(log.source, log.columns, _id_and_query, partial(_decided, router))


def _id_and_query(values: Mapping[str, object], default_id: str) -> tuple[str, str]:
    return text_of(values, "id") or default_id, query_of(values)


def _decided(router: Router, rows: list[tuple[str, str]]) -> "pa.Table":
    """Decide one batch; the whole log has a progress bar already."""
    import pyarrow as pa

    decisions = map_threads(router.decide, [query for _, query in rows])
    columns = {
        "id": pa.array([identity for identity, _ in rows], pa.string()),
        "reason": pa.array([decision.reason for decision in decisions], pa.string()),
        "tier": pa.array([decision.tier for decision in decisions], pa.string()),
    }
    for name in ("p_frontier", "decision_score"):
        columns[name] = pa.array([getattr(one, name) for one in decisions], pa.float64())
    return pa.table(columns)


@contextmanager
def _writer(path: Path, ending: str) -> Iterator[Callable[["pa.RecordBatch"], None]]:
    """Yield a function that writes rows to a CSV or Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if ending == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(_COLUMNS)
            yield lambda batch: lines.writerows(zip(*batch.to_pydict().values(), strict=True))
        return
    # A log without any usable record still gives a file with column names.
    schema = pa.schema(list(zip(_COLUMNS, ("string", "double", "double", "string"), strict=True)))
    with pq.ParquetWriter(path, schema) as table:
        yield table.write_batch
