"""The gate: whether a classifier may become champion. The one use of test rows for a choice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from querytier.eval.evaluation import Evaluation

__all__ = ["Check", "Gate", "absolute_gate"]


@dataclass(frozen=True, slots=True)
class Check:
    """One condition, and how it came out.

    Attributes
    ----------
    name : str
    passed : bool
    detail : str
    """

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdict of all checks.

    Attributes
    ----------
    checks : sequence of Check
    """

    checks: Sequence[Check]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """What failed, or that all passed."""
        failed = [check.detail for check in self.checks if not check.passed]
        return "; ".join(failed) if failed else "; ".join(check.detail for check in self.checks)

    def record(self) -> dict[str, Any]:
        """Return the verdict for JSON."""
        checks = [asdict(check) for check in self.checks]
        return {"passed": self.passed, "reason": self.reason, "checks": checks}


def absolute_gate(evaluation: Evaluation) -> Gate:
    """Judge a classifier that has no champion to beat.

    It has to be better than a constant (the 95% interval lies above 0.5) and than the keyword
    heuristic, in APGR where the log has scores, in AUROC otherwise.

    Parameters
    ----------
    evaluation : Evaluation
    """
    classifier, keyword = evaluation.rows[0], evaluation.row("keyword_heuristic")
    metric = "auroc" if classifier.apgr.value is None else "apgr"
    ours, theirs = getattr(classifier, metric), getattr(keyword, metric)
    if ours.value is None or ours.low is None or theirs.value is None:
        return Gate([Check("measurable", False, f"{metric} is not defined: {ours.reason}")])
    name = metric.upper()
    return Gate(
        [
            Check(
                "better than a constant",
                ours.low > 0.5,
                f"{name} {ours.value:.3f} [{ours.low:.3f}, {ours.high:.3f}] against 0.5",
            ),
            Check(
                "better than the keyword heuristic",
                ours.value > theirs.value,
                f"{name} {ours.value:.3f} against {theirs.value:.3f} of the keyword heuristic",
            ),
        ]
    )
