"""Certificates on real outcomes, and how often the procedure breaks its promise.

The outcome files are in the folder QUERYTIER_OUTCOMES, by default ../shared/data.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from finished_runs import Decided, FinishedRun, finished_runs
from numpy.typing import NDArray
from real_runs import ROOT, TITLES
from sections import write_section
from tqdm import tqdm

from querytier.eval.certificates.certify import Certification, certify
from querytier.eval.certificates.losses import Losses
from querytier.eval.certificates.threshold_tests import candidate_thresholds

SETS = ("routellm_mmlu", "llmrouter_mix", "llmdrift")
ALPHAS = (0.05, 0.10, 0.15)
DELTA, SEED, DRAWS = 0.1, 17, 500

Strings = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Splits:
    """The losses of a run's rows; `pool` are the test rows, one per group."""

    calibration: Losses
    certification: Losses
    pool: Losses

    def certified(self, rows: Losses, alpha: float) -> Certification:
        """Certify on some rows."""
        return certify(self.calibration, rows, alpha=alpha, delta=DELTA, seed=SEED)

    def risk(self, threshold: float) -> float:
        """Return the risk in the pool; 0 if nothing is sent cheap."""
        sent = self.pool.sent_cheap(threshold)
        return float(sent.mean()) if len(sent) else 0.0

    def drawn(self, random: np.random.Generator) -> Losses:
        """Draw a certification set of the real one's size from the pool, with replacement."""
        size = len(self.certification.one_per_group(SEED))
        rows = self.pool.where(random.integers(len(self.pool), size=size))
        groups: Strings = np.array([f"draw {row}" for row in range(size)], dtype=object)
        return replace(rows, groups=groups)

    def usual_threshold(self, rows: Losses, alpha: float) -> float | None:
        """Return the threshold that sends most queries cheap at a measured risk of at most alpha.

        Without a bound or a test: the usual way to pick a threshold on held-out rows.
        """
        candidates = candidate_thresholds(self.calibration.decision_scores)
        failures, counts = rows.totals(candidates)
        met = candidates[(failures <= alpha * counts) & (counts > 0)]
        return float(met[-1]) if len(met) else None


def main() -> int:
    """Certify every set, print the section and write it to RESULTS.md."""
    with finished_runs(SETS, __doc__) as runs:
        parts = [line for found in runs for line in section(found)]
    text = "\n".join([PREFACE, *parts])
    print(text)
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-certify", text)
    return 0


def section(found: FinishedRun) -> Iterator[str]:
    """Yield both tables of a set."""
    calibration, certification, test = (
        losses(found.decided(split)) for split in ("calibration", "certification", "test")
    )
    splits = Splits(calibration, certification, test.one_per_group(SEED))
    certificates = [splits.certified(certification, alpha) for alpha in ALPHAS]
    yield (
        f"### {TITLES[found.name]}\n\n"
        f"{len(calibration):,} calibration rows, {len(certification):,} certification rows in "
        f"{certificates[0].n:,} groups, {len(test):,} test rows in {len(splits.pool):,}; "
        f"needs_frontier {certification.values.mean():.1%} of the certification rows, "
        f"{test.values.mean():.1%} of the test rows.\n"
    )
    yield from table(CERTIFICATE_COLUMNS, [cells(one, splits) for one in certificates])
    yield from table(PROMISE_COLUMNS, [line for alpha in ALPHAS for line in trials(splits, alpha)])


def losses(decided: Decided) -> Losses:
    """Return the losses of the cheap tier: the labels."""
    return Losses.needs_frontier(decided.examples, decided.decision_scores)


def cells(found: Certification, splits: Splits) -> list[str]:
    """Return the table row of a certificate or refusal."""
    tested = f"{found.k:g} of {found.sent_cheap}, bound {found.bound:.4f}" if found.bound else "n/a"
    if found.threshold is None:
        return [f"{found.alpha:.0%}", found.status, "n/a", "n/a", tested, "n/a"]
    sent = splits.pool.sent_cheap(found.threshold)
    shares = [found.coverage, found.coverage_low, found.coverage_high]
    coverage, low, high = (f"{one:.0%}" for one in shares)
    return [
        f"{found.alpha:.0%}",
        found.status,
        f"{found.threshold:.4f}",
        f"{coverage} ({low} to {high})",
        tested,
        share(int(sent.sum()), len(sent)) if len(sent) else "n/a",
    ]


def trials(splits: Splits, alpha: float) -> Iterator[list[str]]:
    """Yield the table rows of both rules, over the same draws."""
    random = np.random.default_rng(SEED)
    draws = [splits.drawn(random) for _ in tqdm(range(DRAWS), desc=f"draw, alpha {alpha:.0%}")]
    ours = [splits.certified(rows, alpha).threshold for rows in tqdm(draws, desc="certify")]
    usual = [splits.usual_threshold(rows, alpha) for rows in draws]
    for rule, thresholds in (("certificate", ours), ("usual rule", usual)):
        yield [f"{alpha:.0%}", rule, *promise_cells(splits, thresholds, alpha)]


def promise_cells(splits: Splits, thresholds: list[float | None], alpha: float) -> list[str]:
    """Return the number of promises, their cheap share, the share broken, and the p value."""
    from scipy.stats import binomtest

    made = [threshold for threshold in thresholds if threshold is not None]
    cheap = [len(splits.pool.sent_cheap(threshold)) / len(splits.pool) for threshold in made]
    broken = sum(splits.risk(threshold) > alpha for threshold in made)
    p_value = binomtest(broken, len(thresholds), DELTA, alternative="greater").pvalue
    cheap_share = f"{np.mean(cheap):.0%}" if made else "n/a"
    return [str(len(made)), cheap_share, share(broken, len(thresholds)), f"{p_value:.2g}"]


def share(hits: int, trials: int) -> str:
    """Return a share with its 95% interval (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    low, high = binomtest(hits, trials).proportion_ci(0.95, method="exact")
    return f"{hits / trials:.1%} ({low:.1%} to {high:.1%})"


def table(columns: tuple[str, ...], lines: list[list[str]]) -> Iterator[str]:
    """Yield a Markdown table."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for line in lines:
        yield f"| {' | '.join(line)} |"
    yield ""


CERTIFICATE_COLUMNS = (
    "alpha",
    "certificate",
    "threshold",
    "cheap share",
    "lost of those sent cheap",
    "risk on the test rows",
)
PROMISE_COLUMNS = (
    "alpha",
    "rule",
    "promises",
    "cheap share",
    "broken",
    "p of broken at most delta",
)
PREFACE = f"""## Certificates on real outcomes

Written by `QUERYTIER_OUTCOMES=../shared/data make bench-certify`, on the runs of `make bench-real`;
delta {DELTA:.0%}, the risk is needs_frontier among the queries sent cheap. The first table of a set
is the certificate that the certification rows allow; for a refusal, it shows the first threshold
tested. The interval of the cheap share holds at all thresholds at once; the others are
Clopper-Pearson intervals.

The second table tests the procedure: {DRAWS} certification sets of the real size are drawn with
replacement from the test rows (one per group), the artifact stays the same, and the risk among all
test rows is the truth. A promise is broken if that is above alpha. The usual rule takes the
threshold that sends most queries cheap at a risk of at most alpha among the drawn rows. "Broken" is
a share of all {DRAWS} sets, of which delta may end in a broken promise: if there are few promises,
most of them may be broken. "p" is from an exact one-sided test. The cheap share is the mean over
the sets with a promise.

A real certificate is one draw: with probability at most delta, its risk is above alpha. The risk
measured on the test rows has its own noise.
"""


if __name__ == "__main__":
    sys.exit(main())
