"""Simulate the audit of fresh labels: how often it holds back honest rows and poisoned rows.

Queries and their hidden difficulty come from examples/loop/population.py. 800 recorded labels
predict 1,200 fresh ones from six sources with 200 each; one source is the attacker.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sections import write_section

from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.labelling import LabelRules
from querytier.loop.fresh_label_audit import embed
from querytier.training.label_audit.expected_labels import ExpectedLabels, predict_labels
from querytier.training.label_audit.hold_back import Finding, HoldRules, hold_back

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "loop"))
from population import Population, SimulatedQuery

RECORDED, FRESH, ATTACKER = 800, 1200, "elm"
Floats = NDArray[np.float64]
Change = Callable[[list[SimulatedQuery], Floats, np.random.Generator], Floats]


@dataclass(frozen=True)
class Scenario:
    """One kind of fresh logs.

    Attributes
    ----------
    name : str
    shifted : bool
        Whether the difficulty has changed for all sources.
    change : callable
        The attacker's change to the labels.
    times : int
        Number of draws for each record.
    """

    name: str
    shifted: bool
    change: Change
    times: int = 4


def honest(_queries: list[SimulatedQuery], labels: Floats, _: np.random.Generator) -> Floats:
    """Change nothing."""
    return labels


def flips(
    queries: list[SimulatedQuery], labels: Floats, dice: np.random.Generator, *, share: float
) -> Floats:
    """Flip a share of the attacker's labels."""
    theirs = np.array([one.tenant == ATTACKER for one in queries])
    return np.where(theirs & (dice.random(len(queries)) < share), 1 - labels, labels)


SCENARIOS = [
    Scenario("nothing has changed", False, honest, 10),
    Scenario("the difficulty shifts for all six", True, honest, 10),
    *(
        Scenario(f"{share:.0%} of one source's labels flipped", False, partial(flips, share=share))
        for share in (0.05, 0.1, 0.2, 0.3, 1.0)
    ),
    Scenario("30% flipped, and the difficulty shifts", True, partial(flips, share=0.3)),
]


def main() -> int:
    """Run the simulation and write the table into RESULTS.md."""
    reading = argparse.ArgumentParser(description=__doc__)
    reading.add_argument("--records", type=int, default=20, help="recorded sets to draw")
    records = reading.parse_args().records
    found: dict[str, list[tuple[float, float]]] = {one.name: [] for one in SCENARIOS}
    for seed in range(records):
        draw(seed, found)
        print(f"record {seed + 1} of {records}", flush=True)
        write_section(Path(__file__).with_name("RESULTS.md"), "bench-poison", table(found))
    print(table(found))
    return 0


def draw(seed: int, found: dict[str, list[tuple[float, float]]]) -> None:
    """Draw a record and fresh queries, and new labels for every scenario."""
    dice, population = np.random.default_rng(seed), Population(seed)
    record, fresh = population.draw_many(RECORDED), population.draw_many(FRESH)
    population.shifted = True
    later = population.draw_many(FRESH)
    recorded = embed(examples_of(record, drawn(record, dice)))
    expected: dict[bool, ExpectedLabels] = {}
    for scenario in SCENARIOS:
        for _ in range(scenario.times):
            queries, shifted = (later if scenario.shifted else fresh), scenario.shifted
            labels = scenario.change(queries, drawn(queries, dice), dice)
            examples = examples_of(queries, labels)
            # The predictions depend only on the queries, so they are the same for all draws.
            if shifted not in expected:
                expected[shifted] = predict_labels(recorded, embed(examples), 5, seed)
            known = replace(expected[shifted], labels=labels)
            findings = hold_back(known, recorded.examples, examples, HoldRules())
            found[scenario.name].append(shares_held(examples, findings))


def drawn(queries: list[SimulatedQuery], dice: np.random.Generator) -> Floats:
    """Return labels drawn by the hidden difficulty."""
    fails = np.array([one.cheap_fails for one in queries])
    count = len(queries)
    return ((dice.random(count) < fails) & (dice.random(count) > 0.06)).astype(float)


def examples_of(queries: list[SimulatedQuery], labels: Floats) -> Examples:
    """Return examples with these labels."""
    rules = LabelRules(("explicit",))
    values = (
        {"query": one.text, "needs_frontier": y, "source": one.tenant, "group": one.conversation}
        for one, y in zip(queries, labels.tolist(), strict=True)
    )
    return Examples.of([example_from(row, rules, f"q-{n}") for n, row in enumerate(values)])


def shares_held(fresh: Examples, findings: list[Finding]) -> tuple[float, float]:
    """Return the share of the attacker's rows held back, and that of the other rows."""
    held = np.zeros(len(fresh), dtype=bool)
    for one in findings:
        if one.verdict == "held":
            held[one.cell.rows] = True
    theirs = fresh.source == ATTACKER
    return float(held[theirs].mean()), float(held[~theirs].mean())


def table(found: dict[str, list[tuple[float, float]]]) -> str:
    """Return the section with its Markdown table."""
    columns = (
        "| the fresh logs | logs | some of the attacker's rows held back | share of them "
        "| some honest rows held back | share of them |"
    )
    lines = [
        "## The audit of fresh labels, against poison\n",
        f"Written by `make bench-poison`. {RECORDED} recorded labels predict {FRESH} fresh ones of",
        "six sources with 200 each; one of them is the attacker. Level 1%, tolerated share 2%; 95%",
        "intervals are Clopper-Pearson's. The queries and their difficulty are invented.\n",
        columns,
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, shares in found.items():
        attacker, others = np.array(shares).T
        lines.append(
            f"| {name} | {len(shares)} | {rate(attacker)} | {attacker.mean():.1%} | "
            f"{rate(others)} | {others.mean():.2%} |"
        )
    return "\n".join(lines)


def rate(shares: Floats) -> str:
    """Return the rate of shares above 0, with its interval."""
    hits, count = int((shares > 0).sum()), len(shares)
    low = beta.ppf(0.025, hits, count - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, count - hits) if hits < count else 1.0
    return f"{hits / count:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    sys.exit(main())
