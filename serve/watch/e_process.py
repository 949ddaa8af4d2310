"""A test that may be looked at after every loss, of a mean loss of at most alpha.

A gambler who starts with a capital of 1 bets on each next loss. While the mean of the next loss,
given all before it, is at most alpha, no bet is in the gambler's favour, so that the chance that
the capital ever reaches 1 / level is at most level (Ville 1939): one may stop whenever one likes.
Nothing else is asked of the losses; they may depend on each other in any other way.

A bet on the odds multiple m multiplies its stake by (1 + (m - 1) loss) / (1 + (m - 1) alpha). That
is the capital process of Waudby-Smith and Ramdas (2024, JRSS B 86:1) with a constant bet; of losses
of 0 and 1 it is the likelihood ratio of odds that are m times those of alpha. Nobody knows by how
much a promise will be broken, so that the capital is divided among several multiples.

Nor does anybody know when. What was bet during good years is lost, so that part of the capital
sleeps, and wakes up bit by bit (the Sleepy Jumper of Vovk et al. 2021, Retrain or not retrain): of
it 1 / (1 + ln(1 + n)) still sleeps after n losses. A promise that breaks after the nth loss is
found with capital that was not spent before, at the price of some ln n in the logarithm of the
capital. There is no reset, which would begin a new test with a chance of false alarm of its own.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

__all__ = ["MULTIPLES", "EProcess"]

# Odds multiples that the capital is divided among.
MULTIPLES = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class EProcess:
    """Evidence against "the mean of the next loss, given the past, is at most alpha".

    Attributes
    ----------
    alpha : float
        Largest mean loss that is promised, in (0, 1).
    level : float
        Largest chance, in (0, 1), that it ever fires while the promise holds.
    count : int
        Losses taken so far.
    stakes : tuple of float
        Capital that is awake, by odds multiple; each 0 or more.
    fired : bool
        Whether the capital has reached 1 / level; then no further loss is taken.

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
                raise ValueError(f"{name} is {value:g}; it has to lie between 0 and 1")

    @property
    def wealth(self) -> float:
        """The capital: 1 at the start, 0 or more ever after."""
        return _asleep(self.count) + math.fsum(self.stakes)

    @property
    def needed(self) -> float:
        """The capital at which it fires."""
        return 1 / self.level

    def after(self, loss: float) -> Self:
        """Return the process after one more loss; itself, where it has fired.

        Parameters
        ----------
        loss : float
            In [0, 1].

        Raises
        ------
        ValueError
            If it is not.
        """
        if not 0 <= loss <= 1:
            raise ValueError(f"the loss is {loss}; it has to lie in [0, 1]")
        if self.fired:
            return self
        woken = (_asleep(self.count) - _asleep(self.count + 1)) / len(MULTIPLES)
        stakes = tuple(
            (stake + woken) * (1 + (multiple - 1) * loss) / (1 + (multiple - 1) * self.alpha)
            for stake, multiple in zip(self.stakes, MULTIPLES, strict=True)
        )
        then = replace(self, count=self.count + 1, stakes=stakes)
        return replace(then, fired=True) if then.wealth >= self.needed else then


def _asleep(count: int) -> float:
    """Return the share of the capital that sleeps after so many losses."""
    return 1 / (1 + math.log1p(count))
