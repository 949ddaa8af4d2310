"""A simulated population: invented queries, and a hidden rule for which tier answers them well.

Each topic has a difficulty, and each phrasing adds to it. The sum is the log-odds that the cheap
model fails; the frontier model rarely fails. At the shift, two topics become hard for the cheap
model and a hard one becomes easy. The queries look the same, but a classifier trained before the
shift is wrong now.
"""

import math
import random
from dataclasses import dataclass

__all__ = ["FRONTIER_COST", "TENANTS", "Population", "SimulatedQuery"]

CHEAP_COST, FRONTIER_COST = 0.0004, 0.006
TENANTS = ("alder", "birch", "cedar", "dogwood", "elm", "fir")

_FRONTIER_FAILS = 0.06
# Log-odds that the cheap model fails, before and after the shift.
_DIFFICULTY = {
    "orders": (-2.6, 1.6),
    "accounts": (-2.4, 1.4),
    "recipes": (-2.2, -2.2),
    "travel": (-1.6, -1.6),
    "code": (1.0, 1.0),
    "contracts": (1.3, -1.8),
    "proofs": (1.8, 1.8),
}
_OBJECTS = {
    "orders": (
        "my parcel", "the blue kettle", "a late delivery", "the missing invoice", "two broken cups",
        "the refund", "my last order", "the gift card", "a wrong size", "the return label",
    ),
    "accounts": (
        "my password", "the second login", "my address", "a locked profile", "the newsletter",
        "my phone number", "the family plan", "two merged accounts", "the birth date", "my token",
    ),
    "recipes": (
        "lentil soup", "a plum cake", "rye bread", "roasted leeks", "a mild curry", "apple jam",
        "buckwheat crepes", "a bean salad", "dumplings", "a cold tart",
    ),
    "travel": (
        "a weekend in the hills", "the night train", "three days by the lake", "a ferry ticket",
        "an early flight", "a quiet campsite", "the museum pass", "a bicycle tour", "visa rules",
        "luggage for winter",
    ),
    "code": (
        "a race in the job queue", "this recursive parser", "a slow join", "the memory leak",
        "our retry logic", "a flaky integration test", "the cache eviction", "an off by one error",
        "the websocket reconnect", "a deadlock between two workers",
    ),
    "contracts": (
        "the liability clause", "an early termination", "our data processing annex",
        "the indemnity cap", "a non compete", "the renewal terms", "a subcontractor",
        "the warranty", "the governing law", "a late payment penalty",
    ),
    "proofs": (
        "the sum of two squares", "a compact metric space", "the pigeonhole principle",
        "an infinite descent", "the chromatic number", "a fixed point theorem", "prime gaps",
        "the rank of a matrix", "a convex function", "an irrational root",
    ),
}  # fmt: skip
_ASKS = {
    "tell me about": -0.5,
    "what is the quick answer on": -0.7,
    "please help me with": 0.0,
    "I have a question about": 0.0,
    "can you look into": 0.1,
    "explain step by step": 0.5,
    "compare all options for": 0.6,
    "find every mistake in my reasoning about": 0.9,
}
_OPENINGS = (
    "", "Hello,", "Good morning,", "Hi there,", "Sorry to bother you again,", "Quick one:",
    "As I wrote yesterday,", "For my colleague:", "Second try,", "Thanks in advance,",
)  # fmt: skip
_SITUATIONS = (
    "since last {day}", "before the end of {month}", "for {count} people", "on a small budget",
    "while I am in {town}", "as the one in {town} said no", "because {count} of us disagree",
    "after the change in {month}", "now that {day} is over", "with only {count} hours left",
    "for the office in {town}", "and keep it under {count} lines",
)  # fmt: skip
_SLOTS = {
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "month": ("January", "March", "April", "June", "August", "October", "November"),
    "count": ("two", "three", "four", "five", "six", "seven", "nine", "eleven", "twenty"),
    "town": ("Brenholt", "Casvik", "Dorlin", "Eastmere", "Falden", "Gorsey", "Hallum", "Ivesby"),
}


@dataclass(frozen=True, slots=True)
class SimulatedQuery:
    """A query, who sends it, and how well each tier would answer it.

    Attributes
    ----------
    text, topic, tenant, conversation : str
    cheap_fails : float
        The hidden probability that the cheap answer is bad.
    cheap_score, frontier_score : float
        1 if that tier's answer is good, else 0; a router sees the score of the tier it used.
    """

    text: str
    topic: str
    tenant: str
    conversation: str
    cheap_fails: float
    cheap_score: float
    frontier_score: float

    @property
    def needs_frontier(self) -> float:
        """1 if only the frontier answer is good."""
        return float(self.cheap_score < self.frontier_score)

    def score(self, tier: str) -> float:
        """Return the score of a tier's answer."""
        return self.frontier_score if tier == "frontier" else self.cheap_score

    @staticmethod
    def cost(tier: str) -> float:
        """Return the cost of a tier's answer, in dollars."""
        return FRONTIER_COST if tier == "frontier" else CHEAP_COST


class Population:
    """Draws queries; `shifted` selects the rule."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311
        self._count = 0
        self.shifted = False

    def draw(self, tenant: str | None = None) -> SimulatedQuery:
        """Return the next query, from the given tenant or a random one."""
        dice = self._dice
        topic, ask = dice.choice(list(_DIFFICULTY)), dice.choice(list(_ASKS))
        situation = dice.choice(_SITUATIONS).format_map(
            {slot: dice.choice(values) for slot, values in _SLOTS.items()}
        )
        words = (dice.choice(_OPENINGS), ask, dice.choice(_OBJECTS[topic]), situation)
        anyone = dice.choice(TENANTS)
        tenant = tenant or anyone
        self._count += 1
        log_odds = _DIFFICULTY[topic][self.shifted] + _ASKS[ask]
        fails = 1 / (1 + math.exp(-log_odds))
        return SimulatedQuery(
            text=" ".join(filter(None, words)),
            topic=topic,
            tenant=tenant,
            conversation=f"{tenant}-{self._count}",
            cheap_fails=fails,
            cheap_score=float(dice.random() >= fails),
            frontier_score=float(dice.random() >= _FRONTIER_FAILS),
        )

    def draw_many(self, count: int) -> list[SimulatedQuery]:
        """Return the next `count` queries."""
        return [self.draw() for _ in range(count)]
