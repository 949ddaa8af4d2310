"""The checks of a gate and their result; and the checks if there is no champion to beat."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from querytier.eval.evaluation import Evaluation
from querytier.eval.intervals import Estimate

__all__ = ["Check", "Gate", "baseline_gate"]


@dataclass(frozen=True, slots=True)
class Check:
    """One condition and its result.

    Attributes
    ----------
    name : str
    passed : bool
    detail : str
    estimate, low, high : float or None
        The number that decides, with its interval; None if there is none.
    margin : float or None
        How much worse than the champion is acceptable; 0 if the challenger must be better.
    """

    name: str
    passed: bool
    detail: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None

    @property
    def estimate_text(self) -> str:
        """The estimate with its interval; `n/a` without one."""
        return Estimate(self.estimate, self.low, self.high).text(".4f")

    @property
    def sentence(self) -> str:
        """The detail; with a margin, the estimate and the margin first."""
        if self.margin is None:
            return self.detail
        return f"{self.name} {self.estimate_text}, margin {self.margin:g}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Gate:
    """The result of all checks.

    Attributes
    ----------
    checks : sequence of Check
    note : str
        A remark on the result; the last part of the reason.
    """

    checks: Sequence[Check]
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The failed checks, or all checks if none failed; then the note."""
        # The reason for a failure is the failed checks; the reason for a success is all checks.
        failed = [check for check in self.checks if not check.passed]
        details = [check.sentence for check in failed or self.checks]
        return "; ".join([*details, self.note] if self.note else details)

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        checks = [asdict(check) for check in self.checks]
        return {"passed": self.passed, "reason": self.reason, "checks": checks}

    def with_rollback(self) -> Self:
        """Return the result for a classifier that was champion and was rolled back: it fails.

        It may pass every check again, because somebody rolled it back for a reason that no check
        covers.
        """
        check = Check(
            "not rolled back",
            passed=False,
            detail="this very model was champion and was rolled back; `querytier rollback --to N` "
            "makes it champion again",
        )
        return replace(self, checks=[*self.checks, check])


def baseline_gate(evaluation: Evaluation, note: str = "") -> Gate:
    """Compare a classifier with two baselines if there is no champion to beat.

    It must be better than a constant (the 95% interval is above 0.5) and than the keyword
    heuristic, in APGR if the log has scores, in AUROC otherwise.

    Parameters
    ----------
    evaluation : Evaluation
    note : str
        A remark on the result.
    """
    classifier, keyword = evaluation.rows[0], evaluation.row("keyword_heuristic")
    metric = "auroc" if classifier.apgr.value is None else "apgr"
    ours, theirs = getattr(classifier, metric), getattr(keyword, metric)
    if ours.value is None or ours.low is None or theirs.value is None:
        return Gate([Check("measurable", False, f"{metric} is undefined: {ours.reason}")], note)
    name = metric.upper()
    constant = f"{name} {ours.text()} against 0.5"
    heuristic = f"{name} {ours.value:.3f} against {theirs.value:.3f} of the keyword heuristic"
    return Gate(
        [
            Check(
                "better than a constant", ours.low > 0.5, constant, ours.value, ours.low, ours.high
            ),
            Check("better than the keyword heuristic", ours.value > theirs.value, heuristic),
        ],
        note,
    )
