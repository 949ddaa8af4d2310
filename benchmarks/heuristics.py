"""The classifier compared with heuristics that routers use today, including LiteLLM's.

The outcome files are in the folder QUERYTIER_OUTCOMES, by default ../shared/data; LiteLLM runs in
.venv-litellm.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from timeit import timeit
from typing import Any

import numpy as np
from finished_runs import Decided, FinishedRun, finished_runs
from litellm_scores import SCORERS, TIERS
from numpy.typing import NDArray
from real_runs import ROOT, TITLES, markdown_table
from sections import write_section

from querytier.data.examples import Examples
from querytier.eval.curves import gain_curve
from querytier.eval.evaluation import Evaluation, evaluate_rankings
from querytier.eval.intervals import Estimate, Resampling, Statistic, difference
from querytier.eval.rankings import Ranking, keyword_scores, length_scores, oracle

SETS = ("routellm_mmlu", "routellm_gsm8k", "llmrouter_mix", "llmdrift")
LITELLM = ROOT / ".venv-litellm" / "bin" / "python"
REPLICATES, SEED = 1000, 17
KEYS = ("auroc", "lead", "apgr", "apgr_lead", "cpt50", "quality_retained")
COLUMNS = (
    "tier",
    "queries",
    "of these needs_frontier",
    "frontier from here up",
    "quality retained",
    "the classifier's at that rate",
    "its lead",
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scorer:
    """The results of one of LiteLLM's scorers on n queries; the columns have shape (n,)."""

    scores: Floats
    tiers: NDArray[np.str_]
    latencies_ms: Floats


def main() -> int:
    """Compare on every set, print the section and write it to RESULTS.md."""
    if not LITELLM.exists():
        print(f"nothing measured: {LITELLM} is missing; `make bench-heuristics` installs it")
        return 1
    with finished_runs(SETS, __doc__) as runs:
        parts = [line for found in runs for line in section(found)]
    text = "\n".join([PREFACE, *parts])
    print(text)
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-heuristics", text)
    return 0


def section(found: FinishedRun) -> Iterator[str]:
    """Yield the tables of a set."""
    test = found.decided("test")
    version, scorers = litellm_scorers(test.examples)
    evaluation = compared(test, scorers, found.router.classifier.manifest.threshold)
    rate = evaluation.rows[0].frontier_rate.value
    yield f"### {TITLES[found.name]}\n\n{len(test.examples):,} held-out rows, LiteLLM {version}.\n"
    means = (f"{name} {shown(one)}" for name, one in evaluation.mean_scores.items())
    yield f"- mean score: {', '.join(means)}"
    yield f"- frontier rate: {rate:.1%}"
    if (reason := evaluation.rows[0].apgr.reason) is not None:
        yield f"- no APGR: {reason}"
    yield f"- time per query: {latencies(test, scorers)}\n"
    yield markdown_table({"rows": [row.to_dict() for row in evaluation.rows]}, KEYS)
    for name, scorer in scorers.items():
        yield f"`{name}` at its own tier boundaries:\n\n{tier_table(test, scorer)}"


def litellm_scorers(examples: Examples) -> tuple[str, dict[str, Scorer]]:
    """Return LiteLLM's version, and its scorers' results on examples, by name."""
    with tempfile.TemporaryDirectory() as folder:
        queries, scores = Path(folder, "queries.json"), Path(folder, "scores.json")
        queries.write_text(json.dumps(dict(zip(examples.id, examples.query, strict=True))), "utf-8")
        script = Path(__file__).with_name("litellm_scores.py")
        subprocess.run([LITELLM, script, queries, scores], check=True)  # noqa: S603
        content: dict[str, Any] = json.loads(scores.read_text("utf-8"))
    return content["version"], {name: scorer_of(content[name], examples) for name in SCORERS}


def scorer_of(content: Mapping[str, Mapping[str, Any]], examples: Examples) -> Scorer:
    """Return a scorer's results in the order of the examples."""
    results = [content[identity] for identity in examples.id]
    return Scorer(
        np.array([one["score"] for one in results]),
        np.array([one["tier"] for one in results]),
        np.array([one["ms"] for one in results]),
    )


def compared(test: Decided, scorers: Mapping[str, Scorer], threshold: float) -> Evaluation:
    """Compare the rankings at the classifier's frontier rate."""
    examples, nothing = test.examples, "nothing"
    classifier = Ranking("classifier", test.decision_scores, test.p_frontier, "its training rows")
    baselines = [
        *(Ranking(name, scorer.scores, None, nothing) for name, scorer in scorers.items()),
        Ranking("keyword_heuristic", keyword_scores(examples.query), None, nothing),
        Ranking("length", length_scores(examples.query), None, nothing),
        oracle(examples),
    ]
    return evaluate_rankings(
        examples, classifier, baselines, threshold=threshold, replicates=REPLICATES, seed=SEED
    )


def latencies(test: Decided, scorers: Mapping[str, Scorer]) -> str:
    """Return the time per query of each, and the ratio of the classifier to LiteLLM's first."""
    queries, ours = test.examples.query, float(np.median(test.latencies_ms))
    times = {name: float(np.median(one.latencies_ms)) for name, one in scorers.items()}
    keywords = timeit(lambda: keyword_scores(queries), number=1)
    times["keyword_heuristic"] = 1000 * keywords / len(queries)
    parts = ", ".join(f"{name} {value:.2g} ms" for name, value in times.items())
    return f"{parts}, classifier {ours:.2g} ms: {ours / times[SCORERS[0]]:.1f} times {SCORERS[0]}"


def tier_table(test: Decided, scorer: Scorer) -> str:
    """Return the queries in each of a scorer's tiers, and the quality of each as a boundary."""
    resampling = Resampling(test.examples.group.tolist(), REPLICATES, SEED)
    lines = [f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 1)}"]
    for place, tier in enumerate(TIERS):
        inside, above = scorer.tiers == tier, np.isin(scorer.tiers, TIERS[place:])
        needs = f"{test.examples.needs_frontier[inside].mean():.1%}" if inside.any() else "n/a"
        cells = [tier, f"{inside.mean():.1%}", needs, f"{above.mean():.1%}"]
        # All or nothing to the frontier tier is not a boundary.
        split = above.any() and not above.all()
        worth = boundary(test, above, resampling) if split else ["n/a", "n/a", "n/a"]
        lines.append(f"| {' | '.join([*cells, *worth])} |")
    return "\n".join(lines) + "\n"


def boundary(test: Decided, above: NDArray[np.bool_], resampling: Resampling) -> list[str]:
    """Return the quality retained by a boundary, and by the classifier at its frontier rate."""
    examples = test.examples
    gains = examples.frontier_score - examples.cheap_score

    def by_classifier(weights: Floats) -> Floats:
        curve = gain_curve(test.decision_scores, gains, weights)
        return curve.at(mean(above.astype(float), weights))

    def retained(gained: Statistic) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            routed = mean(examples.cheap_score, weights) + gained(weights)
            return routed / mean(examples.frontier_score, weights)

        return resampling.estimate(statistic, "the mean frontier score is 0")

    tiers = retained(lambda weights: mean(gains * above, weights))
    classifier = retained(by_classifier)
    return [shown(tiers), shown(classifier), shown(difference(classifier, tiers))]


def mean(values: Floats, weights: Floats) -> Floats:
    """Return the mean of n values under each of b row weights, shape (b,)."""
    return np.asarray(weights @ values / weights.sum(axis=1))


def shown(estimate: Estimate) -> str:
    """Return a value with its interval."""
    if estimate.value is None:
        return "n/a"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


PREFACE = """## The heuristics that routers use today

Written by `QUERYTIER_OUTCOMES=../shared/data make bench-heuristics`, on the runs of `make
bench-real`. All rows of a table use the same held-out rows (the test split); quality retained is
at the classifier's frontier rate, in brackets the 95% interval, bootstrap over groups. "Lead" is
the classifier's value minus the row's, paired.

LiteLLM's scorers run in its own code, with their defaults and the query as the user's last message:
`litellm_complexity` is the score of `auto_router/complexity_router` (keywords, length, markers),
`litellm_heuristic_v2` the alternative (`classifier_type: heuristic_v2`), success rates of cohorts
from UltraFeedback, ranked by P(the simple tier fails). Neither has learned from these sets, nor
have the keyword heuristic and length; the classifier has learned from other rows of the same set.
Both sort queries into four tiers, and the user configures which of them are cheap: each boundary is
tried, and compared with the classifier at the same frontier rate. Times are for one query at a
time, in one process per environment: medians, for the keyword heuristic a mean.
"""


if __name__ == "__main__":
    sys.exit(main())
