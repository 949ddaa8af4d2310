"""The gate: whether a classifier may become champion. The one use of test rows for a choice.

Here are its checks of a classifier by itself; `querytier.eval.gate.non_inferiority` has
those of two.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from querytier.eval.evaluation import Evaluation
from querytier.eval.intervals import Estimate

__all__ = ["Check", "Gate", "absolute_gate", "taken_back"]


@dataclass(frozen=True, slots=True)
class Check:
    """One condition, and how it came out.

    Attributes
    ----------
    name : str
    passed : bool
    detail : str
    estimate, low, high : float or None
        What was estimated, with its interval, where the condition rests on such a number.
    margin : float or None
        How much worse than the champion is still as good; 0 where better is asked for.
    """

    name: str
    passed: bool
    detail: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None

    @property
    def found(self) -> str:
        """The estimate with its interval, as text; `n/a` without one."""
        return Estimate(self.estimate, self.low, self.high).text(".4f")

    @property
    def sentence(self) -> str:
        """The detail; where a margin was asked for, with what was found behind it."""
        if self.margin is None:
            return self.detail
        return f"{self.name} {self.found}, margin {self.margin:g}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdict of all checks.

    Attributes
    ----------
    checks : sequence of Check
    note : str
        What else is to be known of the verdict; the last part of the reason.
    """

    checks: Sequence[Check]
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """What failed, or that all passed; and the note."""
        failed = [check for check in self.checks if not check.passed]
        details = [check.sentence for check in failed or self.checks]
        return "; ".join([*details, self.note] if self.note else details)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict for JSON."""
        checks = [asdict(check) for check in self.checks]
        return {"passed": self.passed, "reason": self.reason, "checks": checks}


def taken_back(gate: Gate) -> Gate:
    """Return the verdict on a classifier that was champion before, and was taken back."""
    check = Check(
        "not taken back",
        passed=False,
        detail="this very model was champion and was rolled back; `querytier rollback --to N` "
        "makes it champion again",
    )
    return replace(gate, checks=[*gate.checks, check])


def absolute_gate(evaluation: Evaluation, note: str = "") -> Gate:
    """Judge a classifier that has no champion to beat.

    It has to be better than a constant (the 95% interval lies above 0.5) and than the keyword
    heuristic, in APGR where the log has scores, in AUROC otherwise.

    Parameters
    ----------
    evaluation : Evaluation
    note : str
        Of the verdict.
    """
    classifier, keyword = evaluation.rows[0], evaluation.row("keyword_heuristic")
    metric = "auroc" if classifier.apgr.value is None else "apgr"
    ours, theirs = getattr(classifier, metric), getattr(keyword, metric)
    if ours.value is None or ours.low is None or theirs.value is None:
        check = Check("measurable", False, f"{metric} is not defined: {ours.reason}")
        return Gate([check], note)
    name = metric.upper()
    return Gate(
        [
            Check(
                "better than a constant",
                ours.low > 0.5,
                f"{name} {ours.text()} against 0.5",
                ours.value,
                ours.low,
                ours.high,
            ),
            Check(
                "better than the keyword heuristic",
                ours.value > theirs.value,
                f"{name} {ours.value:.3f} against {theirs.value:.3f} of the keyword heuristic",
            ),
        ],
        note,
    )
