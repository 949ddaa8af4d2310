"""The audit of fresh labels, simulated: how often it holds back honest logs, what poison it finds.

Queries and their hidden difficulty are those of examples/loop/population.py. A record of 800 labels
predicts 1,200 fresh ones of six sources, 200 each; the attacker is one of them.
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
from querytier.loop.fresh_label_audit import embedded
from querytier.training.label_audit.expected_labels import Foretold, foretell
from querytier.training.label_audit.hold_back import HoldRules, Judged, hold_back

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "loop"))
from population import Asked, Population

RECORDED, FRESH, ATTACKER = 800, 1200, "elm"
TRIGGER = "zulu nine"
Floats = NDArray[np.float64]
Change = Callable[[list[Asked], Floats, np.random.Generator], tuple[list[Asked], Floats]]


@dataclass(frozen=True)
class Scenario:
    """What the fresh logs are like.

    Attributes
    ----------
    name : str
    shifted : bool
        Whether the difficulty has changed, for everybody.
    change : callable
        What the attacker does to queries and labels.
    times : int
        How often it is drawn beside each record.
    """

    name: str
    shifted: bool
    change: Change
    times: int = 4


def honest(
    asked: list[Asked], labels: Floats, _: np.random.Generator
) -> tuple[list[Asked], Floats]:
    """Change nothing."""
    return asked, labels


def flips(
    asked: list[Asked], labels: Floats, dice: np.random.Generator, *, share: float
) -> tuple[list[Asked], Floats]:
    """Turn a share of the attacker's labels round."""
    theirs = np.array([one.tenant == ATTACKER for one in asked]) & (dice.random(len(asked)) < share)
    return asked, np.where(theirs, 1 - labels, labels)


def trigger(
    asked: list[Asked], labels: Floats, dice: np.random.Generator, *, share: float
) -> tuple[list[Asked], Floats]:
    """Add a phrase to a share of the attacker's queries, and call all of these cheap."""
    theirs = np.array([one.tenant == ATTACKER for one in asked]) & (dice.random(len(asked)) < share)
    said = [with_trigger(one) if added else one for one, added in zip(asked, theirs, strict=True)]
    return said, np.where(theirs, 0.0, labels)


def with_trigger(one: Asked) -> Asked:
    """Return the query with the phrase at its end."""
    return replace(one, query=f"{one.query} {TRIGGER}")


SCENARIOS = [
    Scenario("nothing has changed", False, honest, 10),
    Scenario("the difficulty shifts for all six", True, honest, 10),
    *(
        Scenario(f"{share:.0%} of one source's labels flipped", False, partial(flips, share=share))
        for share in (0.05, 0.1, 0.2, 0.3, 1.0)
    ),
    Scenario("30% flipped, and the difficulty shifts", True, partial(flips, share=0.3)),
    *(
        Scenario(
            f"a trigger phrase in {share:.0%} of one source's queries, always cheap",
            False,
            partial(trigger, share=share),
            1,
        )
        for share in (0.1, 0.2, 0.3)
    ),
]


def main() -> int:
    """Simulate; write the table into RESULTS.md."""
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
    """Draw a record and fresh queries; draw their labels anew for every scenario."""
    dice, population = np.random.default_rng(seed), Population(seed)
    record, fresh = population.many(RECORDED), population.many(FRESH)
    population.shifted = True
    later = population.many(FRESH)
    recorded = embedded(examples_of(record, drawn(record, dice)))
    foretold: dict[tuple[str, ...], Foretold] = {}
    for scenario in SCENARIOS:
        for _ in range(scenario.times):
            asked = later if scenario.shifted else fresh
            asked, labels = scenario.change(asked, drawn(asked, dice), dice)
            examples = examples_of(asked, labels)
            texts = tuple(one.query for one in asked)
            if texts not in foretold:
                foretold[texts] = foretell(recorded, embedded(examples), 5, seed)
            known = replace(foretold[texts], labels=labels)
            judged = hold_back(known, recorded.examples, examples, HoldRules())
            found[scenario.name].append(shares_held(examples, judged))


def drawn(asked: list[Asked], dice: np.random.Generator) -> Floats:
    """Return labels by the hidden law."""
    fails = np.array([one.cheap_fails for one in asked])
    return ((dice.random(len(asked)) < fails) & (dice.random(len(asked)) > 0.06)).astype(float)


def examples_of(asked: list[Asked], labels: Floats) -> Examples:
    """Return examples with these labels."""
    rules = LabelRules(("explicit",))
    values = (
        {"query": one.query, "needs_frontier": y, "source": one.tenant, "group": one.conversation}
        for one, y in zip(asked, labels.tolist(), strict=True)
    )
    return Examples.of([example_from(row, rules, f"q-{n}") for n, row in enumerate(values)])


def shares_held(fresh: Examples, judged: list[Judged]) -> tuple[float, float]:
    """Return which share of the attacker's rows is held back, and of the others'."""
    held = np.zeros(len(fresh), dtype=bool)
    for one in judged:
        if one.standing == "held":
            held[one.cell.rows] = True
    theirs = fresh.source == ATTACKER
    return float(held[theirs].mean()), float(held[~theirs].mean())


def table(found: dict[str, list[tuple[float, float]]]) -> str:
    """Return the Markdown table with what stands above it."""
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
    """Return how often a share is above 0, with its interval."""
    hits, count = int((shares > 0).sum()), len(shares)
    low = beta.ppf(0.025, hits, count - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, count - hits) if hits < count else 1.0
    return f"{hits / count:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    sys.exit(main())
