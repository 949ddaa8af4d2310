"""How often the watch withdraws a valid certificate, and how soon an invalid one.

Simulated streams pass through the queue and the test that the service uses. Two common rules run on
the same streams: a z-test, and a Clopper-Pearson bound, each checked after every audit.
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
# Takes streams, one per row; returns the number of losses after which it fired on each, or 0.
Rule = Callable[[Losses], Integers]


@dataclass(frozen=True)
class Stream:
    """Losses of audits in the order of the decisions, and in the order of arrival."""

    decided: Losses
    arrived: Losses


def main() -> int:
    """Simulate, print the section and write it to RESULTS.md."""
    text = "\n".join([PREFACE, *false_alarms(), *delays()])
    print(text)
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-watch", text)
    return 0


# --- certificates that hold


def false_alarms() -> Iterator[str]:
    """Yield the table of the share of streams at the boundary on which each rule ever fires."""
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
    """Return streams as rows, filled up with losses of 0, on which no rule fires."""
    rows = np.zeros((len(streams), max(map(len, streams))))
    for row, stream in zip(rows, streams, strict=True):
        row[: len(stream)] = stream
    return rows


def independent(random: np.random.Generator, alpha: float) -> Stream:
    """Return independent losses of 0 and 1."""
    losses = (random.random(AUDITS) < alpha).astype(float)
    return Stream(losses, losses)


def graded(random: np.random.Generator, alpha: float) -> Stream:
    """Return graded losses, most of them small."""
    losses = random.beta(0.5, 0.5 * (1 - alpha) / alpha, AUDITS)
    return Stream(losses, losses)


def adversarial(random: np.random.Generator, alpha: float) -> Stream:
    """Return losses whose spread depends on the past, while their conditional mean stays alpha.

    If the sum is ahead of alpha, the next loss is 0 or 1; if it is behind, the loss is close to
    alpha. So the running mean stays close to where chance has moved it.
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
    """Return losses whose failures arrive ten times sooner; one in thirty never arrives."""
    losses = (random.random(AUDITS) < alpha).astype(float)
    arrivals = np.arange(AUDITS) + random.exponential(np.where(losses > 0, 50.0, 500.0))
    reported = random.random(AUDITS) > 1 / 30
    order = [number for number in np.argsort(arrivals).tolist() if reported[number]]
    queue = AuditQueue(timeout_s=5000.0)
    for number in range(AUDITS):
        queue.add(Audit(str(number), float(number), "cheap"))
    decided: list[float] = []
    for number in order:
        queue.record(str(number), {"cheap_score": 1 - losses[number], "frontier_score": 1.0})
        decided += losses_of(queue, float(arrivals[number]))
    return Stream(np.array(decided + losses_of(queue, np.inf)), losses[order])


def losses_of(queue: AuditQueue, now: float) -> list[float]:
    """Return the losses of the audits that a queue releases."""
    scores = (audit.scores for audit in queue.release(now))
    return [frontier - cheap for cheap, frontier in filter(None, scores)]


BOUNDARIES = {
    "independent, 0 or 1": independent,
    "independent, graded": graded,
    "spread by the past (adversarial)": adversarial,
    "0 or 1, failures arrive sooner, 1 in 30 never": delayed,
}


# --- certificates that are broken


def delays() -> Iterator[str]:
    """Yield the table of the number of audits and decisions until withdrawal."""
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
    """Return a row of the table: how soon each rule fires, over the streams on which it does."""
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
        f"{good:,} at alpha / 2" if good else "n/a",
        f"{len(found) / BROKEN_STREAMS:.1%}",
        audits(found),
        *(f"{median / rate:,.0f}" for rate in RATES),
        *map(audits, others),
    ]


def audits(delays_of: list[int]) -> str:
    """Return the median and the 90th percentile of delays."""
    if not delays_of:
        return "n/a"
    median, late = np.quantile(delays_of, [0.5, 0.9])
    return f"{median:,.0f} ({late:,.0f})"


# --- rules


def watch(alpha: float) -> Rule:
    """Return the watch's test for all streams at once; some are checked against `EProcess`.

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
            stakes[reached] = 0.0  # otherwise they grow without bound
        for row, number in zip(losses[:CHECKED], fired.tolist(), strict=False):
            expected = number if number <= CHECKED_AUDITS else 0
            assert fired_at(EProcess(alpha, LEVEL), row[:CHECKED_AUDITS]) == expected
        return fired

    return fires


def fired_at(process: EProcess, losses: Losses) -> int:
    """Return the number of losses after which a process fires; 0 if it does not."""
    for number, loss in enumerate(losses.tolist(), 1):
        process = process.after(loss)
        if process.fired:
            return number
    return 0


def peeking(limits: Losses) -> Rule:
    """Return a rule that fires once the sum of the first n losses reaches `limits[n - 1]`."""

    def fires(losses: Losses) -> Integers:
        above = np.cumsum(losses, axis=1) >= limits[: losses.shape[1]] - 1e-9
        return np.where(above.any(axis=1), above.argmax(axis=1) + 1, 0)

    return fires


def clopper_pearson(alpha: float) -> Losses:
    """Return the fewest failures among n with a lower bound above alpha, at the level."""
    from scipy.stats import binom

    counts = np.arange(1, HORIZON + GOOD_AUDITS + 1)
    return np.asarray(binom.isf(LEVEL, counts, alpha) + 1, dtype=np.float64)


def z_test(alpha: float) -> Losses:
    """Return the sum of n >= 30 losses that a one-sided z-test at the level rejects."""
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
the share of streams on which a rule ever fires, with its 95% interval (Clopper-Pearson). The watch
uses losses in the order of the decisions. If failures arrive sooner than successes, a rule that
uses them in the order of arrival sees a risk that does not exist.

Then broken promises, {BROKEN_STREAMS} streams each: from the first audit, or after
{GOOD_AUDITS:,} audits at half of alpha. "Found" is the share on which the watch withdraws the
certificate after the break and within {HORIZON:,} audits (the rest had a false alarm before);
delays are over the streams on which the rule fired after the break. Decisions are the median delay
divided by the audit rate. The two other rules use the mean of all audits so far: if they are
faster, it is because they exceed the level (see the first table), and a good past makes them slow.
"""


if __name__ == "__main__":
    sys.exit(main())
