"""The gain of selected labels over random ones at equal cost, on real outcomes.

The outcome files are in the folder QUERYTIER_OUTCOMES, by default ../shared/data.
"""

import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from real_runs import OUTCOMES, ROOT, TITLES
from sections import write_section
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from tqdm import tqdm

from querytier.classifier.model.encoder import load_encoder
from querytier.data.text_view import text_view
from querytier.eval.active_learning import Queries, choose_queries
from querytier.eval.curves import gain_curve
from querytier.eval.metrics import auroc, brier
from querytier.training.calibration import fit_platt
from querytier.training.embedding_cache import EmbeddingCache

SETS = ("routellm_mmlu", "routellm_gsm8k", "llmrouter_mix", "llmdrift")
SHIFTED = ("routellm_mmlu", "llmrouter_mix")
DEALS, SEED = 24, 17
STARTS = {
    "routellm_mmlu": (100,),
    "routellm_gsm8k": (100, 300),
    "llmrouter_mix": (100,),
    "llmdrift": (100, 300),
}
MOST_ROWS, TEST_SHARE, REGULARISATION = 2000, 0.3, 0.3
# Dollars per million tokens in and out, and tokens per answer: only their ratio matters here.
CHEAP, FRONTIER, ANSWER = (0.5, 1.5), (10.0, 30.0), 300
RULES = {
    "uncovered": {"uncovered": 1.0},
    "half random, half uncovered": {"uncovered": 0.5, "random": 0.5},
}
METRICS = ("AUROC", "APGR", "Brier")

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled queries."""

    embeddings: NDArray[np.float32]
    domains: NDArray[np.object_]
    groups: NDArray[np.object_]
    labels: Floats
    gains: Floats
    costs: Floats

    def where(self, rows: NDArray[np.intp] | Mask) -> "Rows":
        """Return some rows."""
        return Rows(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def main() -> int:
    """Measure every set, rewrite the section of RESULTS.md and print it."""
    if not OUTCOMES.is_dir():
        print(f"nothing measured: no folder {OUTCOMES}; set QUERYTIER_OUTCOMES to that of outcomes")
        return 0
    parts = [line for name in SETS for line in section(name)]
    text = "\n".join([PREFACE, *parts])
    print(text)
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-labels", text)
    return 0


def section(name: str) -> Iterator[str]:
    """Yield the tables of a set."""
    rows = read(name)
    yield f"### {TITLES[name]}\n"
    scenarios = [False, True] if name in SHIFTED else [False]
    yield f"| start | labels so far | rule | {' | '.join(METRICS)} |"
    yield f"|---|---|---|{'---|' * len(METRICS)}"
    for shifted in scenarios:
        for start in STARTS[name]:
            yield from lines(rows, start, name, shifted=shifted)
    yield ""


def lines(rows: Rows, start: int, name: str, *, shifted: bool) -> Iterator[str]:
    """Yield the lines of one number of labels to start from."""
    found: dict[str, list[list[float]]] = {rule: [] for rule in ("none", "random", *RULES)}
    for deal in tqdm(range(DEALS), desc=f"{name}, {start}"):
        for rule, metrics in deal_once(rows, start, deal, shifted=shifted).items():
            found[rule].append(metrics)
    where = "half of the domains" if shifted else "all traffic"
    random = np.array(found["random"])
    means = random.mean(axis=0)
    cells = " | ".join(f"{one:.3f}" if np.isfinite(one) else "no APGR" for one in means)
    yield f"| {where} | {start} | random | {cells} |"
    for rule in ("none", *RULES):
        cells = " | ".join(paired(column) for column in (np.array(found[rule]) - random).T)
        title = "no more labels" if rule == "none" else rule
        yield f"| {where} | {start} | {title}, minus random | {cells} |"


def deal_once(rows: Rows, start: int, deal: int, *, shifted: bool) -> dict[str, list[float]]:
    """Return the metrics of every rule on one deal; they share start, pool and test rows."""
    random = np.random.default_rng([SEED, deal])
    pool, test = split(rows, random)
    eligible = np.arange(len(pool.labels))
    if shifted:
        names = random.permutation(np.unique(pool.domains.astype(str)))
        eligible = np.flatnonzero(np.isin(pool.domains.astype(str), names[: len(names) // 2]))
    first = random.permutation(eligible)[:start]
    rest = np.setdiff1d(np.arange(len(pool.labels)), first)
    begun, others = pool.where(first), pool.where(rest)
    fair = np.ones(start, dtype=np.bool_)
    unlabelled, labelled = unnamed(others), unnamed(begun)
    budget = start * float(others.costs.mean())
    found = {"none": judged(begun, fair, test)}
    for rule, shares in {"random": {"random": 1.0}, **RULES}.items():
        chosen = choose_queries(
            unlabelled, others.costs, labelled, budget=budget, shares=shares, seed=deal
        )
        added = others.where(np.array([one.row for one in chosen], dtype=np.intp))
        more = joined(begun, added)
        # As in the product: selected rows are used to train, not to calibrate.
        fair_more = np.concatenate([fair, np.full(len(chosen), rule == "random")])
        found[rule] = judged(more, fair_more, test)
    return found


def unnamed(rows: Rows) -> Queries:
    """Return the queries as the rules see them: without their domains."""
    return Queries(rows.groups, rows.embeddings, np.full(len(rows.labels), "", dtype=object))


def split(rows: Rows, random: np.random.Generator) -> tuple[Rows, Rows]:
    """Split groups at random into a pool and test rows."""
    groups = random.permutation(np.unique(rows.groups.astype(str)))
    held_out = groups[: int(TEST_SHARE * len(groups))]
    test = np.isin(rows.groups.astype(str), held_out)
    pool = random.permutation(np.flatnonzero(~test))[:MOST_ROWS]
    return rows.where(pool), rows.where(test)


def fitted(rows: Rows) -> LogisticRegression:
    """Fit the head."""
    labels = (rows.labels > 0.5).astype(int)
    return LogisticRegression(C=REGULARISATION, max_iter=500).fit(rows.embeddings, labels)


def judged(rows: Rows, fair: Mask, test: Rows) -> list[float]:
    """Train, calibrate out of fold on random rows, and measure on the test rows."""
    model, labels = fitted(rows), (rows.labels > 0.5).astype(int)
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    blank = LogisticRegression(C=REGULARISATION, max_iter=500)
    logits = cross_val_predict(blank, rows.embeddings, labels, cv=folds, method="decision_function")
    slope, offset = fit_platt(logits[fair], rows.labels[fair], np.ones(int(fair.sum())))
    scores = model.decision_function(test.embeddings).astype(np.float64)
    p_frontier = 1 / (1 + np.exp(-(slope * scores + offset)))
    one = np.ones((1, len(scores)))
    area = float(auroc(scores, test.labels, one)[0])
    apgr = float(gain_curve(scores, test.gains, one).apgr()[0])
    return [area, apgr, float(brier(p_frontier, test.labels, one)[0])]


def joined(first: Rows, second: Rows) -> Rows:
    """Put rows together."""
    names = first.__dataclass_fields__
    return Rows(*(np.concatenate([getattr(first, n), getattr(second, n)]) for n in names))


def paired(differences: Floats) -> str:
    """Return a mean difference over the deals with its 95% interval (Student's t)."""
    from scipy.stats import t

    kept = differences[np.isfinite(differences)]
    if len(kept) < len(differences):
        return "no APGR"
    error = kept.std(ddof=1) / np.sqrt(len(kept)) * t.ppf(0.975, len(kept) - 1)
    mean = kept.mean()
    return f"{mean:+.3f} ({mean - error:+.3f} to {mean + error:+.3f})"


def read(name: str) -> Rows:
    """Read a set, and encode its queries."""
    with gzip.open(OUTCOMES / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    views = [text_view(record["query"]) for record in records]
    cheap = np.array([record["weak_score"] for record in records], dtype=np.float64)
    frontier = np.array([record["strong_score"] for record in records], dtype=np.float64)
    tokens = np.array([len(record["query"]) for record in records]) / 4
    prices = [(tokens * model[0] + ANSWER * model[1]) / 1e6 for model in (CHEAP, FRONTIER)]
    domains = [record["meta"].get("subject") or record.get("domain") or "" for record in records]
    return Rows(
        EmbeddingCache().encode(load_encoder(), views),
        np.array(domains, dtype=object),
        np.array([record["meta"]["group"] for record in records], dtype=object),
        ((cheap < 0.5) & (frontier >= 0.5)).astype(np.float64),
        frontier - cheap,
        sum(prices),
    )


PREFACE = f"""## Selected labels against random ones

Written by `QUERYTIER_OUTCOMES=../shared/data make bench-labels`. Start with some labels that chance
picked and fit a logistic regression on MiniLM's embeddings. Then spend the price of the same number
of labels again, by a rule of `querytier select-queries`; fit again, and measure on held-out groups
({TEST_SHARE:.0%} of them). {DEALS} deals of start, pool (at most {MOST_ROWS:,} rows) and test rows,
shared by all rules. The line "random" has the means; the other lines have the mean paired
difference to it with its 95% interval (Student's t over the deals; all deals share the set, so the
interval covers chance in the deals, not other sets). Higher is better for AUROC and APGR, lower
for Brier. Selected labels train and do not calibrate. "Half of the domains": the first labels
cover only half of the subjects or tasks, the traffic covers all; the rules do not see the domains.
"""


if __name__ == "__main__":
    sys.exit(main())
