"""Whether outcomes of other models save labels of the pair that is routed."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sections import write_section
from tqdm import tqdm

from querytier.classifier.model.encoder import load_encoder
from querytier.data.column_map import parse_paths
from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import read_unsplit
from querytier.data.ingest.sources import LogSource
from querytier.eval.curves import gain_curve
from querytier.eval.intervals import Estimate, Resampling, difference, undefined
from querytier.eval.metrics import auroc
from querytier.training.baselines import LabelledFeatures, tfidf_lr
from querytier.training.embedding_cache import EmbeddingCache
from querytier.training.folds import group_folds, out_of_fold_scores
from querytier.training.learners import LinearLearner

SHARED = Path(__file__).parents[2] / "shared" / "data"
OUTCOMES = Path(os.environ.get("QUERYTIER_OUTCOMES", SHARED))
COLUMNS = "query=query,cheap_score=weak_score,frontier_score=strong_score,group=meta.group,id=id"
SETS = ("llmrouter_mix", "zeroeval_crux", "zeroeval_mathl5", "llmdrift")
DRAWS = {100: 5, 300: 5, 1000: 5, 3000: 2}
FOLDS, INNER_FOLDS, REPLICATES = 5, 3, 1000
REGULARISATION, ALPHAS = (0.03, 0.3, 3.0), np.logspace(0, 6, 13)
SAME_MODEL, WORTH_HAVING = 0.95, 0.01
WITHOUT, ADDED, ALONE, ORACLE = "without", "added", "alone", "oracle"
VARIANTS = {
    WITHOUT: ("embedding",),
    ADDED: ("embedding", "guessed"),
    ALONE: ("guessed",),
    ORACLE: ("embedding", "true"),
}

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Statistic = Callable[[Floats, Floats], Floats]


def main() -> int:
    """Measure every set; write the tables to RESULTS.md."""
    if not OUTCOMES.is_dir():
        print(
            f"nothing measured: {OUTCOMES} does not exist; set QUERYTIER_OUTCOMES to the outcomes"
        )
        return 0
    parts = [line for name in SETS for line in section(name, *read_set(name))]
    text = "\n".join([PREFACE.format(minutes=time.process_time() / 60), *parts])
    print(text)
    write_section(Path(__file__).with_name("RESULTS.md"), "bench-difficulty", text)
    return 0


def read_set(name: str) -> tuple[LabelledFeatures, str]:
    """Return a set, with a block of scores of other models than the pair's, and its description."""
    import pandas as pd

    log = OUTCOMES / f"{name}.jsonl.gz"
    with tempfile.TemporaryDirectory() as folder:
        source = LogSource(log, paths=parse_paths(COLUMNS))
        examples, _ = read_unsplit([source], Reading(), Path(folder, "quarantine.jsonl"))
    pair = pd.read_json(log, lines=True, nrows=1).loc[0, ["weak_model", "strong_model"]].tolist()
    matrix = pd.read_csv(OUTCOMES / f"{name}__scores.csv.gz", index_col="id").loc[examples.id]
    scores = matrix.drop(columns=pair).to_numpy(np.float32)
    own = np.stack([examples.cheap_score, examples.frontier_score])[:, :, np.newaxis]
    copies = (np.isclose(scores, own, atol=0.01).mean(axis=1) >= SAME_MODEL).any(axis=0)
    views = examples.views()
    blocks = {"minilm3": EmbeddingCache().encode(load_encoder(layers=3), views)}
    about = (
        f"{' against '.join(pair)}; {(~copies).sum()} other models, {copies.sum()} copies left out"
    )
    return LabelledFeatures(examples, {**blocks, "others": scores[:, ~copies]}), about


def gains_of(examples: Examples) -> Floats:
    """Return frontier score minus cheap score, shape (n,)."""
    return examples.frontier_score - examples.cheap_score


def difficulty(others: NDArray[np.float32], train: Mask) -> Floats:
    """Return mean score, lead of the stronger half of the models, and deviation; shape (n, 3).

    The stronger half is found on the training rows.
    """
    weak, strong = np.array_split(np.argsort(np.nanmean(others[train], axis=0)), 2)
    lead = np.nanmean(others[:, strong], axis=1) - np.nanmean(others[:, weak], axis=1)
    return np.stack([np.nanmean(others, axis=1), lead, np.nanstd(others, axis=1)], axis=1)


def predicted(labelled: LabelledFeatures, embeddings: Floats, known: Floats, train: Mask) -> Floats:
    """Predict difficulty from embeddings by ridge regression, without rows of the same group."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ridge = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, alpha_per_target=True))
    rows = embeddings[train], known[train]
    guesses, groups = np.empty_like(known), labelled.examples.group
    guesses[train] = cross_val_predict(ridge, *rows, groups=groups[train], cv=GroupKFold(FOLDS))
    guesses[~train] = ridge.fit(*rows).predict(embeddings[~train])
    return guesses


def features_of(labelled: LabelledFeatures, train: Mask) -> LabelledFeatures:
    """Return the rows with predicted and true difficulty as blocks."""
    true = difficulty(labelled.blocks["others"], train)
    guessed = predicted(labelled, labelled.embeddings.astype(np.float64), true, train)
    blocks = {"embedding": labelled.embeddings, "guessed": guessed, "true": true}
    return LabelledFeatures(
        labelled.examples, {name: block.astype(np.float32) for name, block in blocks.items()}
    )


def expected_gains(
    learner: LinearLearner, train: LabelledFeatures, test: LabelledFeatures
) -> Floats:
    """Return the expected gains of the test rows, by a head fitted to the training rows."""
    return learner.member(train).gains(test.blocks)


def tuned_gains(blocks: tuple[str, ...], train: LabelledFeatures, test: LabelledFeatures) -> Floats:
    """Return expected gains at the regularisation with the least squared error in inner folds."""
    folds, gains = group_folds(train.examples, INNER_FOLDS, 0), gains_of(train.examples)

    def error(learner: LinearLearner) -> float:
        found = out_of_fold_scores(partial(expected_gains, learner), train, folds)
        return float(((found - gains / np.abs(gains).max()) ** 2).mean())

    learners = [LinearLearner(blocks, c) for c in REGULARISATION]
    return expected_gains(min(learners, key=error), train, test)


def pooled_ranks(labelled: LabelledFeatures, folds: list[Mask]) -> dict[tuple[int, str], Floats]:
    """Return ranks within the fold, by labels (0: all) and variant; shape (draws, n).

    Heads of different folds have different scales, so ranks are pooled and not gains.
    """
    from scipy.stats import rankdata

    size = len(labelled.examples)
    draws = {n: draws for n, draws in DRAWS.items() if n < size * (1 - 1 / FOLDS)} | {0: 1}
    ranks = {(n, v): np.empty((d, size)) for n, d in draws.items() for v in VARIANTS}
    bar = tqdm(total=len(folds) * sum(map(len, ranks.values())), desc="fit", unit="head")
    for fold, held_out in enumerate(folds):
        features, train = features_of(labelled, ~held_out), np.flatnonzero(~held_out)
        for (count, variant), kept in ranks.items():
            for draw in range(len(kept)):
                order = np.random.default_rng([fold, draw]).permutation(train)
                rows = np.isin(np.arange(size), order[: count or None])
                kept[draw, held_out] = tuned_gains(
                    VARIANTS[variant], features.where(rows), features.where(held_out)
                )
                bar.update()
    bar.close()
    ranks[0, "TF-IDF + LR"] = out_of_fold_scores(tfidf_lr, labelled, folds)[np.newaxis]
    for scores in ranks.values():
        for held_out in folds:
            scores[:, held_out] = rankdata(scores[:, held_out], axis=1) / held_out.sum()
    return ranks


def estimated(statistic: Statistic, resampling: Resampling, ranks: Floats) -> Estimate:
    """Estimate the mean over draws of the labels; the interval is over groups and draws."""
    values = resampling.values(lambda drawn: np.stack([statistic(it, drawn) for it in ranks], 1))
    shares = np.full(len(ranks), 1 / len(ranks))
    weights = np.random.default_rng(0).multinomial(len(ranks), shares, REPLICATES) / len(ranks)
    replicates = (values[1:] * weights).sum(axis=1)
    low, high = np.percentile(replicates, [2.5, 97.5])
    if not np.isfinite([low, high]).all():
        return undefined("the frontier model may not be the better one")
    return Estimate(float(values[0].mean()), float(low), float(high), None, replicates)


def section(name: str, labelled: LabelledFeatures, about: str) -> Iterator[str]:
    """Yield description, table and reading of one set."""
    examples, gains = labelled.examples, gains_of(labelled.examples)
    ranks = pooled_ranks(labelled, group_folds(examples, FOLDS, 0))
    resampling = Resampling(examples.group.tolist(), REPLICATES, 0)
    statistics: dict[str, Statistic] = {
        "APGR": lambda order, weights: gain_curve(order, gains, weights).apgr(),
        "AUROC": lambda order, weights: auroc(order, examples.needs_frontier, weights),
    }
    found = {
        (measure, *run): estimated(statistic, resampling, it)
        for measure, statistic in statistics.items()
        for run, it in ranks.items()
    }
    yield (
        f"### {name}\n\n{about}; {len(gains)} queries, needs_frontier "
        f"{examples.needs_frontier.mean():.1%}, mean gain {gains.mean():+.3f}\n\n"
        "| labels | difficulty | APGR | APGR lead | AUROC | AUROC lead |\n|---:|---|" + "---:|" * 4
    )
    by = next(measure for measure in statistics if found[measure, 0, WITHOUT].value is not None)
    verdicts: dict[tuple[str, str], list[str]] = {}
    for count, variant in ranks:
        cells = [f"{count:,}" if count else f"all {len(gains) * (FOLDS - 1) // FOLDS:,}", variant]
        for measure in statistics:
            value = found[measure, count, variant]
            lead = difference(value, found[measure, count, WITHOUT])
            cells += [shown(value, ""), shown(lead, "+") if variant != WITHOUT else "n/a"]
            if variant in {ADDED, ALONE} and measure == by:
                verdicts.setdefault((variant, verdict(lead)), []).append(cells[0])
        yield f"| {' | '.join(cells)} |"
    readings = [
        f"{' '.join(what)} {' and '.join(counts)}" for what, counts in sorted(verdicts.items())
    ]
    yield f"\nReading, by {by} and labels: difficulty {'; '.join(readings)}.\n"


def verdict(lead: Estimate) -> str:
    """Return the conclusion that the interval of a lead allows."""
    if lead.low > 0:
        return "helps at"
    if lead.high < 0:
        return "hurts at"
    return "does not help at" if lead.high < WORTH_HAVING else "is undecided at"


def shown(estimate: Estimate, sign: str) -> str:
    """Return a value with its interval, or a dash."""
    if estimate.value is None:
        return "n/a"
    return f"{estimate.value:{sign}.3f} ({estimate.low:{sign}.3f} to {estimate.high:{sign}.3f})"


PREFACE = f"""## Does the difficulty for other models save labels of the pair?

Written by `QUERYTIER_OUTCOMES=../shared/data make bench-difficulty`, in {{minutes:.1f}} minutes of
one core. A ridge regression on MiniLM's first three layers learns how models outside the pair do on
all training queries of the fold, labelled for the pair or not: mean score, lead of the stronger
half of the models, deviation. Then a gain head learns the pair, with `C` chosen by inner folds:
"{WITHOUT}" from the embedding, "{ADDED}" from it and the three predictions, "{ALONE}" from these
only. "{ORACLE}" adds their true values, also of held-out queries: a router would have to call all
those models first.

{FOLDS} folds by group; labels drawn {DRAWS[100]} times (3,000 {DRAWS[3000]} times, all once).
Ranked by expected gain, TF-IDF by P(needs_frontier); ranks within the fold are pooled. In brackets
the 95% interval over groups and draws; a lead is over "{WITHOUT}" with the same number of labels,
paired. "Helps", "hurts": the interval is above, below 0; "does not help": it ends below
{WORTH_HAVING}. Among this many, a few exclude 0 by chance. Other versions of the pair's models
count as other models. No APGR if the frontier model may not be the better one.
"""


if __name__ == "__main__":
    sys.exit(main())
