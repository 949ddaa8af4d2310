"""Settings of the watch over a certificate, and its findings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from querytier.classifier.threshold import Tier

__all__ = ["Missing", "State", "WatchSettings", "WatchState"]

State = Literal["watching", "withdrawn", "nothing promised"]
Missing = Literal["left_out", "loss"]


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """Settings of the watch.

    Attributes
    ----------
    level : float
        Largest probability, in (0, 1), of ever withdrawing a certificate that holds.
    timeout_s : float
        Seconds for which an audit without both scores holds up later ones; then it is missing, and
        scores that arrive afterwards are ignored. Above 0.
    missing : {"left_out", "loss"}
        Whether missing audits are left out, which is right if scores go missing at random, or count
        as a loss of 1, so that missing scores cannot hide a broken promise. Then the level holds
        only if losses and missing audits together stay within alpha.

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
            raise ValueError(f"level is {self.level}; it has to be between 0 and 1, such as 0.05")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s is {self.timeout_s}; it has to be above 0")
        if self.missing not in {"left_out", "loss"}:
            raise ValueError(f"missing is {self.missing!r}; choose left_out or loss")


@dataclass(frozen=True, slots=True)
class WatchState:
    """What a watch has counted, and its verdict.

    Attributes
    ----------
    state : {"watching", "withdrawn", "nothing promised"}
    wealth, needed : float
        Largest evidence of the tests, and the evidence that withdraws; as in `EProcess`.
    taken : int
        Number of audits whose losses were tested.
    loss : float
        Sum of these losses.
    missing, repeated, waiting : int
        Number of audits that timed out without both scores, of further audits of a conversation
        (not tested), and of audits that wait for their own scores or for earlier audits.
    extra_calls : mapping of str to int
        Number of answers that were requested only for the audit, by tier.
    extra_cost : float
        Their cost, as far as `cheap_cost` and `frontier_cost` were reported.
    failed : int
        Number of lines of the file that could not be written or read.
    withdrawn_for : str or None
        The broken promise: `all queries`, or the name of a slice.
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
        """Return the state for JSON."""
        return {name: getattr(self, name) for name in WatchState.__slots__}
