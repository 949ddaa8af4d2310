"""How a certificate is watched, and what the watch has found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from querytier.classifier.threshold import Tier

__all__ = ["Missing", "State", "WatchSettings", "WatchState"]

State = Literal["watching", "withdrawn", "nothing promised"]
Missing = Literal["left_out", "loss"]


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How a certificate is watched.

    Attributes
    ----------
    level : float
        Largest chance, in (0, 1), that a certificate that holds is ever withdrawn.
    timeout_s : float
        So long after its decision an audit without both scores holds up those after it; then it is
        missing, and what is told of it later comes too late. Above 0.
    missing : {"left_out", "loss"}
        Whether missing audits are left out, which is right where scores go missing at random, or
        count as lost entirely, which no way of going missing can hide a broken promise from; then
        the level holds only where the losses and the missing together stay within alpha.

    Raises
    ------
    ValueError
        If one of them is out of range.
    """

    level: float = 0.05
    timeout_s: float = 259_200.0
    missing: Missing = "left_out"

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}; it has to lie between 0 and 1, such as 0.05")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s is {self.timeout_s}; it has to be above 0")
        if self.missing not in {"left_out", "loss"}:
            raise ValueError(f"missing is {self.missing!r}; it is left_out or loss")


@dataclass(frozen=True, slots=True)
class WatchState:
    """What a watch has seen, and what it makes of that.

    Attributes
    ----------
    state : {"watching", "withdrawn", "nothing promised"}
    wealth, needed : float
        Largest capital of the tests, and where it withdraws; as in `EProcess`.
    taken : int
        Audits whose losses were taken.
    loss : float
        Sum of these.
    missing, repeated, waiting : int
        Audits that came to their end without both scores; further ones of a conversation, which are
        not taken; and those that wait for scores, their own or earlier ones.
    extra_calls : mapping of str to int
        Answers that were asked for the audit alone, by tier.
    extra_cost : float
        What these cost, as far as `cheap_cost` and `frontier_cost` were told.
    failed : int
        Lines of the file that could not be written, or read.
    withdrawn_for : str or None
        The promise that was broken: that of all queries, or the name of a slice.
    """

    state: State
    wealth: float
    needed: float
    taken: int
    loss: float
    missing: int
    repeated: int
    waiting: int
    extra_calls: Mapping[Tier, int]
    extra_cost: float
    failed: int
    withdrawn_for: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return {name: getattr(self, name) for name in WatchState.__slots__}
