"""How often the watch withdraws a certificate that holds, and how soon one that does not.

Simulated streams, through the queue and the test that serve. Two rules that people use instead are
shown on the same streams: a z-test, or Clopper and Pearson's bound, looked at after every audit.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sections import write_section
from tqdm import tqdm

from querytier.serve.watch.audits import Audit, AuditQueue
from querytier.serve.watch.e_process import MULTIPLES, EProcess

ROOT = Path(__file__).resolve().parent.parent
LEVEL, SEED = 0.05, 17
STREAMS, AUDITS = 1000, 2000
BROKEN_STREAMS, HORIZON, GOOD_AUDITS = 300, 20_000, 1000
ALPHAS, RISKS, RATES = (0.1, 0.05), (1.25, 1.5, 2.0, 3.0), (0.01, 0.05)
FEWEST_FOR_Z = 30
CHECKED, CHECKED_AUDITS = 5, 1500

Losses = NDArray[np.float64]
Integers = NDArray[np.int64]
# From streams, one a row, to the number of losses after which it fired on each; 0: never.
Rule = Callable[[Losses], Integers]


@dataclass(frozen=True)
class Stream:
    """Losses of audits in the order of their decisions, and in that in which they were told."""

    decided: Losses
    arrived: Losses


def main() -> int:
    """Simulate, rewrite the section of RESULTS.md and print it."""
    text = "\n".join([PREFACE, *false_alarms(), *delays()])
    print(text)
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-watch", text)
    return 0


# --- promises that are kept


def false_alarms() -> Iterator[str]:
    """Yield the table of the share of streams at the boundary on which a rule ever fires."""
    alpha = ALPHAS[0]
    rules: dict[str, tuple[Rule, str]] = {
        "watch": (watch(alpha), "decided"),
        "watch, in the order of arrival": (watch(alpha), "arrived"),
        "Clopper-Pearson, every audit": (peeking(clopper_pearson(alpha)), "arrived"),
        "z-test, every audit": (peeking(z_test(alpha)), "arrived"),
    }
    yield "| streams at the boundary | " + " | ".join(rules) + " |"
    yield f"|---|{'---|' * len(rules)}"
    for name, make in BOUNDARIES.items():
        random = np.random.default_rng(SEED)
        streams = [make(random, alpha) for _ in tqdm(range(STREAMS), desc=name)]
        cells = [
            share(int((rule(padded([getattr(one, order) for one in streams])) > 0).sum()), STREAMS)
            for rule, order in rules.values()
        ]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def padded(streams: Sequence[Losses]) -> Losses:
    """Return streams as rows, with losses of 0 at their ends, after which no rule fires."""
    rows = np.zeros((len(streams), max(map(len, streams))))
    for row, stream in zip(rows, streams, strict=True):
        row[: len(stream)] = stream
    return rows


def independent(random: np.random.Generator, alpha: float) -> Stream:
    """Return losses of 0 and 1, each by itself."""
    losses = (random.random(AUDITS) < alpha).astype(float)
    return Stream(losses, losses)


def graded(random: np.random.Generator, alpha: float) -> Stream:
    """Return losses of quality: most of them small."""
    losses = random.beta(0.5, 0.5 * (1 - alpha) / alpha, AUDITS)
    return Stream(losses, losses)


def adversarial(random: np.random.Generator, alpha: float) -> Stream:
    """Return losses whose spread follows from the past, while their mean given it stays alpha.

    Ahead, the next is all or nothing; behind, it hardly differs from alpha: whoever looks at the
    running mean sees it stay where chance has taken it.
    """
    draws, losses, total = random.random(AUDITS), np.empty(AUDITS), 0.0
    for number, draw in enumerate(draws.tolist()):
        if total >= alpha * number:
            losses[number] = float(draw < alpha)
        else:
            losses[number] = alpha * (1.5 if draw < 0.5 else 0.5)
        total += losses[number]
    return Stream(losses, losses)


def delayed(random: np.random.Generator, alpha: float) -> Stream:
    """Return losses of which the bad are told ten times sooner, and one in thirty never is."""
    losses = (random.random(AUDITS) < alpha).astype(float)
    arrivals = np.arange(AUDITS) + random.exponential(np.where(losses > 0, 50.0, 500.0))
    told = random.random(AUDITS) > 1 / 30
    order = [number for number in np.argsort(arrivals).tolist() if told[number]]
    queue = AuditQueue(timeout_s=5000.0)
    for number in range(AUDITS):
        queue.add(Audit(str(number), float(number), "cheap"))
    decided: list[float] = []
    for number in order:
        queue.record(str(number), {"cheap_score": 1 - losses[number], "frontier_score": 1.0})
        decided += taken(queue, float(arrivals[number]))
    return Stream(np.array(decided + taken(queue, np.inf)), losses[order])


def taken(queue: AuditQueue, now: float) -> list[float]:
    """Return the losses of the audits that a queue lets out."""
    scores = (audit.scores for audit in queue.release(now))
    return [frontier - cheap for cheap, frontier in filter(None, scores)]


BOUNDARIES = {
    "independent, 0 or 1": independent,
    "independent, graded": graded,
    "spread by the past (adversarial)": adversarial,
    "0 or 1, failures told sooner, 1 in 30 never": delayed,
}


# --- promises that are broken


def delays() -> Iterator[str]:
    """Yield the table of how many audits, and decisions, it takes to withdraw."""
    columns = [
        *("alpha", "risk", "before", "found", "audits, median (90%)"),
        *(f"decisions sent cheap, {rate:.0%} audited" for rate in RATES),
        *("Clopper-Pearson", "z-test"),
    ]
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for alpha in ALPHAS:
        for good in (0, GOOD_AUDITS):
            for multiple in RISKS:
                yield f"| {' | '.join(delay_cells(alpha, multiple, good))} |"
    yield ""


def delay_cells(alpha: float, multiple: float, good: int) -> list[str]:
    """Return a line of the table: how soon each rule fires, of the streams where it is in time."""
    random = np.random.default_rng(SEED)
    before = random.random((BROKEN_STREAMS, good)) < alpha / 2
    broken = random.random((BROKEN_STREAMS, HORIZON)) < alpha * multiple
    losses = np.hstack([before, broken]).astype(np.float64)
    rules = (watch(alpha), peeking(clopper_pearson(alpha)), peeking(z_test(alpha)))
    fired = [rule(losses) for rule in rules]
    found, *others = [(one[one > good] - good).tolist() for one in fired]
    median = float(np.median(found))
    return [
        f"{alpha:g}",
        f"{multiple:g} alpha",
        f"{good:,} at alpha / 2" if good else "–",
        f"{len(found) / BROKEN_STREAMS:.1%}",
        audits(found),
        *(f"{median / rate:,.0f}" for rate in RATES),
        *map(audits, others),
    ]


def audits(delays_of: list[int]) -> str:
    """Return the median and the 90th percentile of delays."""
    if not delays_of:
        return "–"
    median, late = np.quantile(delays_of, [0.5, 0.9])
    return f"{median:,.0f} ({late:,.0f})"


# --- rules


def watch(alpha: float) -> Rule:
    """Return the watch's own test, on all streams at once; some are checked by `EProcess` itself.

    Raises
    ------
    AssertionError
        If the two differ.
    """

    def fires(losses: Losses) -> Integers:
        fired = np.zeros(len(losses), dtype=np.int64)
        stakes = np.zeros((len(losses), len(MULTIPLES)))
        gains = np.array(MULTIPLES) - 1
        asleep = 1 / (1 + np.log1p(np.arange(losses.shape[1] + 1)))
        for number, column in enumerate(losses.T, 1):
            stakes += (asleep[number - 1] - asleep[number]) / len(MULTIPLES)
            stakes *= (1 + np.outer(column, gains)) / (1 + gains * alpha)
            reached = asleep[number] + stakes.sum(axis=1) >= 1 / LEVEL
            fired[reached & (fired == 0)] = number
            stakes[reached] = 0.0  # else they grow beyond all bounds
        for row, number in zip(losses[:CHECKED], fired.tolist(), strict=False):
            expected = number if number <= CHECKED_AUDITS else 0
            assert fired_at(EProcess(alpha, LEVEL), row[:CHECKED_AUDITS]) == expected
        return fired

    return fires


def fired_at(process: EProcess, losses: Losses) -> int:
    """Return after how many losses a process has fired; 0 where it has not."""
    for number, loss in enumerate(losses.tolist(), 1):
        process = process.after(loss)
        if process.fired:
            return number
    return 0


def peeking(limits: Losses) -> Rule:
    """Return a rule that fires where the sum of the first n losses is at least `limits[n - 1]`."""

    def fires(losses: Losses) -> Integers:
        above = np.cumsum(losses, axis=1) >= limits[: losses.shape[1]] - 1e-9
        return np.where(above.any(axis=1), above.argmax(axis=1) + 1, 0)

    return fires


def clopper_pearson(alpha: float) -> Losses:
    """Return the fewest failures among n whose lower bound, at the level, lies above alpha."""
    from scipy.stats import binom

    counts = np.arange(1, HORIZON + GOOD_AUDITS + 1)
    return np.asarray(binom.isf(LEVEL, counts, alpha) + 1, dtype=np.float64)


def z_test(alpha: float) -> Losses:
    """Return the sum of n losses that a one-sided z-test at the level rejects, from n = 30 on."""
    from scipy.stats import norm

    counts = np.arange(1, HORIZON + GOOD_AUDITS + 1)
    limits = alpha * counts + norm.isf(LEVEL) * np.sqrt(alpha * (1 - alpha) * counts)
    return np.where(counts < FEWEST_FOR_Z, np.inf, limits)


def share(hits: int, trials: int) -> str:
    """Return a share with its 95% interval (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    low, high = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    return f"{hits / trials:.1%} ({low:.1%} to {high:.1%})"


PREFACE = f"""## The watch over the certificate

Written by `make bench-watch`, on simulated streams; level {LEVEL:.0%}. First: {STREAMS:,} streams
of {AUDITS:,} audits whose risk is alpha = {ALPHAS[0]:g} exactly, so that the promise just holds:
the share on which a rule ever says that it does not, with its 95% interval (Clopper-Pearson). The
watch takes losses in the order of their decisions; where failures are told sooner, whoever takes
them as they arrive sees a risk that is not there, and no test forgives that.

Then promises that are broken, {BROKEN_STREAMS} streams each: from the first audit on, or after
{GOOD_AUDITS:,} audits at half of alpha. "Found" is the share on which the watch withdraws the
certificate after the break and within {HORIZON:,} audits (what is missing had a false alarm
before); delays are those of the streams on which the rule fired after the break. Decisions are the
median delay over the audit rate. The two other rules look at the mean of all audits so far: where
they are sooner, they have taken it from the level (see the first table), and good years make them
late.
"""


if __name__ == "__main__":
    sys.exit(main())
