"""A few labels of another pair of models: do nothing, recalibrate, or train from scratch.

The outcome files are in the folder QUERYTIER_OUTCOMES, by default ../shared/data.
"""

import argparse
import csv
import gzip
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_runs import OUTCOMES, ROOT, RUNS, run
from sections import write_section
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from tqdm import tqdm

from querytier.classifier.model.calibrator import sigmoid
from querytier.classifier.model.encoder import load_encoder
from querytier.classifier.threshold import goes_to_frontier
from querytier.data.examples import Examples
from querytier.data.ingest.preparing import read_prepared
from querytier.eval.certificates.certify import certify
from querytier.eval.certificates.losses import Losses
from querytier.eval.metrics import auroc, brier, ece
from querytier.pipeline.feature_blocks import FeatureBlocks
from querytier.pipeline.scoring import load_for_evaluation
from querytier.training.calibration import fit_calibrator, fit_platt
from querytier.training.embedding_cache import EmbeddingCache
from querytier.training.fit import FittedClassifier, threshold_for

DEALS, SEED, LABELS, MOST_ROWS = 40, 17, (100, 200, 300), 1200
ALPHAS, DELTA, FRONTIER_RATE, REGULARISATION = (0.1, 0.2, 0.3), 0.1, 0.3, 0.3
MARCH = "cheap_score=meta.weak_march,frontier_score=meta.strong_march"
MIX = ("qwen2.5-7b-instruct", "llama-3.1-nemotron-51b-instruct")
COLUMNS = ("AUROC", "Brier", "ECE", "sent to frontier", "needed it, of those sent cheap")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Swap:
    """A run on one pair of models, and a function that reads the scores of the next pair."""

    name: str
    title: str
    arguments: str
    new_scores: Callable[[], dict[str, tuple[float, float]]]


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows that the old head did not learn from, with labels of the new pair; length n."""

    examples: Examples
    embeddings: NDArray[np.float32]
    log_odds: Floats
    p_frontier: Floats
    decision_scores: Floats
    threshold: float
    by_gain: bool
    rate_before: float

    def where(self, mask: NDArray[np.bool_]) -> "Pool":
        """Return some rows."""
        columns = (self.embeddings, self.log_odds, self.p_frontier, self.decision_scores)
        kept = (column[mask] for column in columns)
        rest = (self.threshold, self.by_gain, self.rate_before)
        return Pool(self.examples.where(mask), *kept, *rest)


@dataclass(frozen=True, eq=False)
class Routed:
    """The scores and the threshold of an approach on its test rows."""

    p_frontier: Floats
    scores: Floats
    threshold: float

    def metrics(self, labels: Floats) -> list[float]:
        """Return a value for each of `COLUMNS`."""
        one = np.ones((1, len(labels)))
        frontier = goes_to_frontier(self.scores, self.threshold)
        cheap = labels[~frontier]
        return [
            float(auroc(self.scores, labels, one)[0]),
            float(brier(self.p_frontier, labels, one)[0]),
            float(ece(self.p_frontier, labels, one)[0]),
            float(frontier.mean()),
            float(cheap.mean()) if len(cheap) else 0.0,
        ]


def main() -> int:
    """Measure every swap, print the section and write it to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="reuse the runs in DIR, and keep new ones there"
    )
    runs = parser.parse_args().runs
    if not OUTCOMES.is_dir():
        print(f"nothing measured: {OUTCOMES} is missing; set QUERYTIER_OUTCOMES to the outcomes")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = runs or Path(scratch)
        text = "\n".join([PREFACE, *(line for swap in SWAPS for line in section(swap, folder))])
    print(text)
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-swap", text)
    return 0


def section(swap: Swap, runs: Path) -> Iterator[str]:
    """Yield the tables of a swap."""
    out = runs / swap.name
    if not (out / "metrics.json").exists():
        run(swap.arguments, out)
    pool = pool_of(out, swap.new_scores())
    rate = float(pool.examples.needs_frontier.mean())
    yield (
        f"### {swap.title}\n\n{len(pool.examples):,} rows that the head did not learn from; "
        f"needs_frontier {pool.rate_before:.1%} with the old pair, {rate:.1%} with the new.\n"
    )
    yield f"| labels | approach | {' | '.join(COLUMNS)} |"
    yield f"|---|---|{'---|' * len(COLUMNS)}"
    promises: list[str] = []
    for labels in LABELS:
        found, certified = deals(pool, labels, swap.name)
        for approach, values in found.items():
            cells = " | ".join(spread(column) for column in np.array(values).T)
            yield f"| {labels} | {approach} | {cells} |"
        for alpha, answers in certified.items():
            promises.append(promise_line(labels, alpha, answers))
    yield "\n| labels | alpha | promises | cheap share | broken |\n|---|---|---|---|---|"
    yield from promises
    yield ""


def deals(
    pool: Pool, labels: int, name: str
) -> tuple[dict[str, list[list[float]]], dict[float, list[tuple[float, float] | None]]]:
    """Return the metrics of every approach, and cheap share and risk of every promise."""
    found: dict[str, list[list[float]]] = {}
    certified: dict[float, list[tuple[float, float] | None]] = {alpha: [] for alpha in ALPHAS}
    for deal in tqdm(range(DEALS), desc=f"{name}, {labels}"):
        random = np.random.default_rng([SEED, deal])
        taken = np.zeros(len(pool.examples), dtype=np.bool_)
        taken[random.permutation(len(taken))[:labels]] = True
        groups = pool.examples.group.astype(str)
        fresh = ~np.isin(groups, groups[taken])
        known, judged = pool.where(taken), pool.where(fresh)
        half = np.isin(np.arange(labels), random.permutation(labels)[: labels // 2])
        # All rows of a group belong to the same half.
        calibrating = np.isin(known.examples.group, known.examples.group[half])
        truth = judged.examples.needs_frontier
        new = recalibrated(known.where(calibrating), judged)
        approaches = {
            "nothing done": Routed(judged.p_frontier, judged.decision_scores, pool.threshold),
            "recalibrated": new,
            "from scratch": from_scratch(known, judged),
        }
        for approach, routed in approaches.items():
            found.setdefault(approach, []).append(routed.metrics(truth))
        # If the ranking is lost, all rows have one probability, and no threshold can be certified.
        flat = new.scores.min() == new.scores.max()
        for alpha in ALPHAS:
            made = None if flat else promise(known, calibrating, judged, alpha)
            certified[alpha].append(made)
    return found, certified


def recalibrated(known: Pool, judged: Pool) -> Routed:
    """Calibrate as `querytier recalibrate` does."""
    rows = known.examples
    found = fit_calibrator(
        known.log_odds, rows.needs_frontier, rows.weight, rows.group, method="platt", seed=SEED
    ).calibrator
    p_known, p_frontier = (found.probabilities(pool.log_odds) for pool in (known, judged))
    if known.by_gain:
        threshold = threshold_for(known.decision_scores, FRONTIER_RATE)
        return Routed(p_frontier, judged.decision_scores, threshold)
    return Routed(p_frontier, p_frontier, threshold_for(p_known, FRONTIER_RATE))


def promise(
    known: Pool, calibrating: NDArray[np.bool_], judged: Pool, alpha: float
) -> tuple[float, float] | None:
    """Return cheap share and risk of the certified threshold; None if it is refused."""
    losses = Losses.needs_frontier(known.examples, known.decision_scores)
    halves = losses.where(calibrating), losses.where(~calibrating)
    found = certify(*halves, alpha=alpha, delta=DELTA, seed=SEED)
    if found.threshold is None:
        return None
    cheap = ~goes_to_frontier(judged.decision_scores, found.threshold)
    sent = judged.examples.needs_frontier[cheap]
    return float(cheap.mean()), float(sent.mean()) if len(sent) else 0.0


def from_scratch(known: Pool, judged: Pool) -> Routed:
    """Fit a logistic regression on MiniLM's embeddings, calibrated out of fold, on all labels."""
    labels = (known.examples.needs_frontier > 0.5).astype(int)
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    model = LogisticRegression(C=REGULARISATION, max_iter=500)
    logits = cross_val_predict(
        model, known.embeddings, labels, cv=folds, method="decision_function"
    )
    slope, offset = fit_platt(logits, known.examples.needs_frontier, np.ones(len(labels)))
    model.fit(known.embeddings, labels)
    scores = model.decision_function(judged.embeddings).astype(np.float64)
    p_known, p_frontier = (sigmoid(slope * one + offset) for one in (logits, scores))
    return Routed(p_frontier, p_frontier, threshold_for(p_known, FRONTIER_RATE))


def pool_of(out: Path, scores: dict[str, tuple[float, float]]) -> Pool:
    """Return a run's rows outside the train split, labelled by the new pair's scores."""
    examples, data = read_prepared(out)
    examples = examples.of_split("calibration", "certification", "test")
    order = np.random.default_rng(SEED).permutation(len(examples))
    examples = examples.where(np.isin(np.arange(len(examples)), order[:MOST_ROWS]))
    classifier = load_for_evaluation(out / "model").classifier
    views = examples.views()
    scored = [classifier.scores(view) for view in tqdm(views, desc=out.name)]
    fitted = FittedClassifier.read(out / "train")
    features = FeatureBlocks.read(out / "train").of(fitted.recipe)
    pairs = np.array([scores[identity] for identity in examples.id])
    labels = ((pairs[:, 0] < 0.5) & (pairs[:, 1] >= 0.5)).astype(np.float64)
    relabelled = examples.__class__(
        **{
            name: getattr(examples, name)
            for name in examples.__dataclass_fields__
            if name not in ("needs_frontier", "cheap_score", "frontier_score")
        },
        needs_frontier=labels,
        cheap_score=pairs[:, 0],
        frontier_score=pairs[:, 1],
    )
    return Pool(
        relabelled,
        EmbeddingCache().encode(load_encoder(), views),
        fitted.heads.log_odds(features.of(views)),
        np.array([one.p_frontier for one in scored]),
        np.array([one.decision_score for one in scored]),
        classifier.manifest.threshold,
        classifier.manifest.decision_score == "gain",
        data.shares["needs_frontier"],
    )


def june() -> dict[str, tuple[float, float]]:
    """Return the scores of June's models by id."""
    with gzip.open(OUTCOMES / "llmdrift.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return {one["id"]: (one["weak_score"], one["strong_score"]) for one in records}


def next_mix() -> dict[str, tuple[float, float]]:
    """Return the scores of the mix's other pair by id."""
    path = OUTCOMES / "llmrouter_mix__scores.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return {one["id"]: (float(one[MIX[0]]), float(one[MIX[1]])) for one in csv.DictReader(file)}


def spread(values: Floats) -> str:
    """Return the mean over the deals, and the range of 95% of them."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [2.5, 97.5])
    return f"{finite.mean():.3f} ({low:.3f} to {high:.3f})"


def promise_line(labels: int, alpha: float, answers: list[tuple[float, float] | None]) -> str:
    """Return the number of promises, their cheap share, and the share broken."""
    from scipy.stats import binomtest

    made = [answer for answer in answers if answer is not None]
    broken = sum(risk > alpha for _, risk in made)
    low, high = binomtest(broken, len(answers)).proportion_ci(0.95, method="exact")
    cheap = f"{np.mean([share for share, _ in made]):.0%}" if made else "n/a"
    shown = f"{broken / len(answers):.0%} ({low:.0%} to {high:.0%})"
    return f"| {labels} | {alpha:.0%} | {len(made)} of {len(answers)} | {cheap} | {shown} |"


SWAPS = (
    Swap(
        "llmdrift_march",
        "primes and happy numbers: gpt-3.5 and gpt-4, from March to June 2023",
        f"$QUERYTIER_OUTCOMES/llmdrift.jsonl.gz --map query=query,{MARCH},"
        "group=meta.group,id=id,domain=domain --alpha 0.1",
        june,
    ),
    Swap(
        "llmrouter_mix",
        "mix of 14 tasks: cheap model from mistral-7b to qwen2.5-7b, frontier model nemotron-51b",
        f"{RUNS['llmrouter_mix']} --alpha 0.2",
        next_mix,
    ),
)
PREFACE = f"""## Another pair of models, few labels

Written by `QUERYTIER_OUTCOMES=../shared/data make bench-swap`. A classifier is trained on all
labels of one pair; then the pair changes, and 100 to 300 labels of the new one are drawn from rows
that the head did not learn from. The old run requested a certificate: alpha 10% for primes, which
was refused, and 20% for the mix, which was granted. "Nothing done" keeps classifier and threshold;
"recalibrated" is `querytier recalibrate`: half of the labels fit Platt scaling and set the
threshold for a frontier rate of {FRONTIER_RATE:.0%}, the other half certifies; "from scratch" is a
logistic regression on MiniLM's embeddings, calibrated out of fold, on all labels, so that none is
left to certify. All are measured on the rows whose groups have no label. Means over {DEALS} deals,
in brackets the range of 95% of the deals; all deals are drawn from the same rows.

The second table is about certificates, delta {DELTA:.0%}: the number of deals that get one, their
mean cheap share, and the share of all deals whose promise is broken on the other rows, with its 95%
interval (Clopper-Pearson). Delta allows {DELTA:.0%}.
"""


if __name__ == "__main__":
    sys.exit(main())
