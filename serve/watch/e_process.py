"""A test of "the mean loss is at most alpha" whose result may be looked at after every loss.

It is a test by betting. A gambler starts with a capital of 1 and bets on each next loss. While the
mean of the next loss, given all losses before, is at most alpha, no bet is in the gambler's favour:
the capital is a non-negative supermartingale, so that by Ville's inequality (1939)

    P(the capital ever reaches 1 / level) <= level.

So the test may be stopped at any time. The losses may depend on each other in any other way.

A loss x in [0, 1] turns a stake on the odds multiple m into

    stake * (1 + (m - 1) x) / (1 + (m - 1) alpha),

the capital process of Waudby-Smith and Ramdas (2024, JRSS B 86:1) with a constant bet; for losses
of 0 and 1 it is the likelihood ratio of odds m times those of alpha. Nobody knows by how much a
promise will be broken, so the capital is divided among several multiples.

Nobody knows when, either. A stake that was bet during good years is lost, so part of the capital
sleeps and wakes little by little (the Sleepy Jumper of Vovk et al. 2021, "Retrain or not retrain"):
after n losses, 1 / (1 + ln(1 + n)) of it still sleeps. A promise that breaks after the n-th loss is
detected with capital that was not spent before, at the price of about ln n in the logarithm of the
capital. There is no reset: a reset would begin a new test with its own chance of a false alarm.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

__all__ = ["MULTIPLES", "EProcess"]

# Odds multiples that share the capital: small ones find a promise that is broken by a little, large
# ones find a gross breach within a few losses.
MULTIPLES = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class EProcess:
    """Evidence against "the mean of the next loss, given the past, is at most alpha".

    Attributes
    ----------
    alpha : float
        Largest mean loss that is promised, in (0, 1).
    level : float
        Largest probability, in (0, 1), of ever firing while the promise holds.
    count : int
        Number of losses so far.
    stakes : tuple of float
        Capital that is awake, by odds multiple; each 0 or more.
    fired : bool
        Whether the capital has reached 1 / level; further losses are then ignored.

    Raises
    ------
    ValueError
        If alpha or level is out of range.

    Examples
    --------
    >>> process = EProcess(alpha=0.1, level=0.05)
    >>> for loss in (0, 1, 1, 1): process = process.after(loss)
    >>> round(process.wealth, 1), process.fired
    (27.0, True)
    """

    alpha: float
    level: float
    count: int = 0
    stakes: tuple[float, ...] = (0.0,) * len(MULTIPLES)
    fired: bool = False

    def __post_init__(self) -> None:
        for name in ("alpha", "level"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value:g}; it has to be between 0 and 1")

    @property
    def wealth(self) -> float:
        """The capital: 1 at the start, never below 0."""
        return _asleep(self.count) + math.fsum(self.stakes)

    @property
    def needed(self) -> float:
        """The capital at which it fires."""
        return 1 / self.level

    def after(self, loss: float) -> Self:
        """Return the process after one more loss; itself if it has fired.

        Parameters
        ----------
        loss : float
            In [0, 1].

        Raises
        ------
        ValueError
            If the loss is out of range.
        """
        if not 0 <= loss <= 1:
            raise ValueError(f"the loss is {loss}; it has to be in [0, 1]")
        if self.fired:
            return self
        # Capital wakes before the bet and independently of the loss, so that the mean of the sum
        # over the next loss stays the same: waking is not a bet.
        woken = (_asleep(self.count) - _asleep(self.count + 1)) / len(MULTIPLES)
        stakes = tuple(
            (stake + woken) * (1 + (multiple - 1) * loss) / (1 + (multiple - 1) * self.alpha)
            for stake, multiple in zip(self.stakes, MULTIPLES, strict=True)
        )
        process = replace(self, count=self.count + 1, stakes=stakes)
        # Ville's inequality is about the first time: the alarm stays, even if the capital falls.
        return replace(process, fired=True) if process.wealth >= self.needed else process


def _asleep(count: int) -> float:
    """Return the share of the capital that sleeps after `count` losses."""
    return 1 / (1 + math.log1p(count))
