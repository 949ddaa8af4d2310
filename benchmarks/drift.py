"""False alarms of `querytier drift`, and the shifts that it finds, on real outcomes."""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from finished_runs import FinishedRun, finished_runs
from numpy.typing import NDArray
from real_runs import OUTCOMES, ROOT
from sections import write_section
from tqdm import trange

from querytier.data.examples import Examples
from querytier.eval.drift.findings import DriftFindings, DriftRule
from querytier.eval.drift.tests import find_drift
from querytier.eval.drift.windows import Observed
from querytier.loop.drift_observations import drawn, observe

RULE = DriftRule(permutations=1199)
LEVELS = (0.01, 0.05, 0.1)
NULLS, UNGROUPED, DRAWS = 340, 40, 20
SIZES = (250, 800)
MOST_ROWS = 2000
HELD_OUT = ("calibration", "certification", "test")
PER_CONVERSATION = 5

Rows = NDArray[np.intp]
Shifted = Callable[[np.random.Generator, Observed, Observed], tuple[Observed, Observed]]


def main() -> int:
    """Measure both, print the section and write it to RESULTS.md."""
    with finished_runs(("llmdrift", "routellm_mmlu"), __doc__) as runs:
        llmdrift, mmlu = runs
        drifting, subjects = held_out(llmdrift), held_out(mmlu)
        parts = [
            *false_alarms(subjects, drifting),
            *speed(subjects),
            *power(subjects),
            *march_to_june(drifting, held_out_examples(llmdrift).id.tolist()),
        ]
    text = "\n".join([PREFACE.format(permutations=RULE.permutations), *parts])
    print(text)
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-drift", text)
    return 0


def held_out(run: FinishedRun) -> Observed:
    """Return the observations of the rows that a run's classifier was not fitted to."""
    (seen,) = observe([held_out_examples(run)], run.router.classifier, 0.8)
    return seen


def held_out_examples(run: FinishedRun) -> Examples:
    """Return those rows; if there are more than 2,000, whole groups are drawn."""
    return drawn(run.examples.of_split(*HELD_OUT), MOST_ROWS, 0)


def two_windows(random: np.random.Generator, seen: Observed, groups: int) -> list[Observed]:
    """Return two windows of the same traffic, with `groups` groups each."""
    names, place = np.unique(seen.group.astype(str), return_inverse=True)
    side = np.zeros(len(names), dtype=int)
    side[random.permutation(len(names))[: 2 * groups]] = np.repeat([1, 2], groups)
    return [seen.where(side[place] == number) for number in (1, 2)]


def conversations(random: np.random.Generator, window: Observed, traffic: Observed) -> Observed:
    """Return a window of conversations with five rows each, most of them near copies.

    Four rows in five have the query and label of the first, the others those of a random row.
    """
    rows = np.repeat(np.arange(len(window)), PER_CONVERSATION)
    other = random.random(len(rows)) < 0.2
    any_row = random.integers(len(window), len(window) + len(traffic), size=len(rows))
    found = window.joined(traffic).where(np.where(other, any_row, rows))
    return replace(found, group=np.array([f"c{row}" for row in rows], dtype=object))


def ungrouped(window: Observed, name: str) -> Observed:
    """Return a window in which each row is a group of its own."""
    return replace(window, group=np.array([f"{name}{n}" for n in range(len(window))], object))


def false_alarms(subjects: Observed, drifting: Observed) -> Iterator[str]:
    """Yield the table of false alarms."""
    yield (
        "### False alarms\n\n| windows without drift | comparisons | nominal rate 1% | 5% | 10% |\n"
        "|---|---:|---|---|---|"
    )

    def talk(random: np.random.Generator) -> list[Observed]:
        windows = two_windows(random, subjects, 100)
        return [conversations(random, one, subjects) for one in windows]

    def talk_ungrouped(random: np.random.Generator) -> list[Observed]:
        return [ungrouped(one, name) for one, name in zip(talk(random), "ab", strict=True)]

    kinds: dict[str, Callable[[np.random.Generator], list[Observed]]] = {
        "MMLU, 250 and 250 groups": lambda random: two_windows(random, subjects, 250),
        "primes and happy numbers, 100 and 100": lambda random: two_windows(random, drifting, 100),
        f"MMLU in conversations of {PER_CONVERSATION}, 100 and 100": talk,
        "the same, without groups": talk_ungrouped,
    }
    pooled: list[DriftFindings] = []
    for number, (name, windows) in enumerate(kinds.items()):
        found = [
            find_drift(*windows(np.random.default_rng([number, n])), replace(RULE, seed=n))
            for n in trange(UNGROUPED if windows is talk_ungrouped else NULLS, desc=name)
        ]
        if windows is not talk_ungrouped:
            pooled += found
        yield alarm_row(name, found)
    yield alarm_row("all but the last", pooled)


def alarm_row(name: str, found: list[DriftFindings]) -> str:
    """Return the share of comparisons with a significant test at each level, whatever its size."""
    smallest = np.array([min(one.adjusted_p_value for one in each.findings) for each in found])
    cells = [interval(int((smallest <= level).sum()), len(found)) for level in LEVELS]
    return f"| {name} | {len(found):,} | {' | '.join(cells)} |"


def interval(alarms: int, comparisons: int) -> str:
    """Return a share with its exact 95% interval."""
    from scipy.stats import binomtest

    found = binomtest(alarms, comparisons).proportion_ci(method="exact")
    return f"{alarms / comparisons:.1%} ({found.low:.1%} to {found.high:.1%})"


def speed(seen: Observed) -> Iterator[str]:
    """Yield the time of a comparison of two observed windows."""
    random = np.random.default_rng(0)
    pair = [seen.where(random.integers(len(seen), size=10_000)) for _ in range(2)]
    first, second = (ungrouped(one, name) for one, name in zip(pair, "ab", strict=True))
    started = time.process_time()
    find_drift(first, second, DriftRule())
    yield (
        f"\n10,000 against 10,000 rows with {DriftRule().permutations:,} shuffles take "
        f"{time.process_time() - started:.0f} s of one core, plus the graph's time for the "
        "rows.\n"
    )


def power(seen: Observed) -> Iterator[str]:
    """Yield the table of planted shifts."""
    yield (
        "### Power on MMLU\n\nShare of "
        f"{DRAWS} comparisons with an alarm at 1%, and the tests that found it, most frequent "
        "first. Domains are removed.\n\n"
        f"| planted shift | {' | '.join(f'{n} and {n} groups' for n in SIZES)} | found by |\n"
        f"|---|{'---:|' * len(SIZES)}---|"
    )
    law = seen.domain == "professional_law"
    # With domains in the log, their mix alone finds most topics.
    seen = replace(seen, domain=np.full(len(seen), "", dtype=object))
    shifts: dict[str, Shifted] = {}
    for share in (0.05, 0.1, 0.2):
        name = f"{share:.0%} of the recent rows replaced by professional law"
        shifts[name] = topic_shift(seen.where(law), share)
    for deviations in (0.1, 0.2, 0.4):
        shifts[f"mean score + {deviations} standard deviations"] = score_shift(deviations)
    for points in (0.03, 0.06, 0.12):
        shifts[f"needs_frontier + {100 * points:.0f} points at the same queries"] = labels(points)
    for name, shift in shifts.items():
        found = {size: alarms(seen, size, shift, name) for size in SIZES}
        yield power_row(name, found)


def alarms(seen: Observed, size: int, shift: Shifted, name: str) -> list[DriftFindings]:
    """Return the findings on windows with a planted shift."""
    made = []
    for n in trange(DRAWS, desc=f"{name}, {size}"):
        random = np.random.default_rng([size, n])
        first, second = two_windows(random, seen, size)
        made.append(find_drift(*shift(random, first, second), replace(RULE, seed=n)))
    return made


def power_row(name: str, found: dict[int, list[DriftFindings]]) -> str:
    """Return a row of the table."""
    cells = [f"{np.mean([bool(one.drifted) for one in every]):.0%}" for every in found.values()]
    names = [one.name for every in found.values() for each in every for one in each.drifted]
    order = sorted(set(names), key=lambda one: (-names.count(one), one))[:3]
    return f"| {name} | {' | '.join(cells)} | {', '.join(order) or '–'} |"


def topic_shift(topic: Observed, share: float) -> Shifted:
    """Return a shift that replaces a share of the recent rows by rows of one topic."""

    def shifted(
        random: np.random.Generator, first: Observed, second: Observed
    ) -> tuple[Observed, Observed]:
        count = round(share * len(second))
        kept = random.permutation(len(second))[count:]
        added = random.choice(len(topic), count, replace=False)
        return first, second.where(kept).joined(topic.where(added))

    return shifted


def score_shift(deviations: float) -> Shifted:
    """Return a shift that resamples the recent rows, hard ones more often."""

    def shifted(
        random: np.random.Generator, first: Observed, second: Observed
    ) -> tuple[Observed, Observed]:
        scores = second.decision_score
        # Tilting by exp(a z) moves the mean of a normal score by a standard deviations.
        tilt = np.exp(deviations * (scores - scores.mean()) / scores.std())
        drawn = random.choice(len(second), len(second), p=tilt / tilt.sum())
        return first, second.where(drawn)

    return shifted


def labels(points: float) -> Shifted:
    """Return a shift that changes recent labels from 0 to 1."""

    def shifted(
        random: np.random.Generator, first: Observed, second: Observed
    ) -> tuple[Observed, Observed]:
        easy = second.needs_frontier < 0.5
        turned = easy & (random.random(len(second)) < points / easy.mean())
        return first, replace(second, needs_frontier=np.where(turned, 1.0, second.needs_frontier))

    return shifted


def march_to_june(seen: Observed, ids: list[str]) -> Iterator[str]:
    """Yield the findings on queries of the same kind, labelled in March and in June 2023."""
    with gzip.open(Path(OUTCOMES, "llmdrift.jsonl.gz"), "rt") as file:
        scores = {row["id"]: row["meta"] for row in map(json.loads, file)}
    march = np.array(
        [float(scores[one]["weak_march"] < 0.5 <= scores[one]["strong_march"]) for one in ids]
    )
    yield (
        "\n### Labels of March against June 2023\n\nOther queries of the same kinds: the reference "
        f"has the labels of March ({march.mean():.1%} needs_frontier), the recent window those of "
        f"June ({np.mean(seen.needs_frontier):.1%}), on which the artifact was trained.\n\n"
        "| groups in either window | alarms at 1% | found by |\n|---:|---:|---|"
    )
    marked = replace(seen, unknown_share=march)  # keeps the labels with the drawn rows

    def dated(
        _: np.random.Generator, first: Observed, second: Observed
    ) -> tuple[Observed, Observed]:
        still = [replace(one, unknown_share=np.zeros(len(one))) for one in (first, second)]
        return replace(still[0], needs_frontier=first.unknown_share), still[1]

    for size in (100, 200, 350):
        found = alarms(marked, size, dated, "March to June")
        yield power_row(str(size), {size: found})


PREFACE = """## False alarms and power of `querytier drift`

Written by `QUERYTIER_OUTCOMES=../shared/data make bench-drift`, on the runs of `make bench-real`:
up to 2,000 rows of the calibration, certification and test splits, as the artifact sees them.
Windows are drawn by whole groups; {permutations:,} permutations per comparison, otherwise the
defaults of `drift:`. In brackets exact 95% intervals.

The first table counts comparisons with any significant test, however small the shift: the least
effects in `drift:` would only remove alarms. The last row shows what happens if rows of a
conversation are treated as independent.
"""

if __name__ == "__main__":
    raise SystemExit(main())
