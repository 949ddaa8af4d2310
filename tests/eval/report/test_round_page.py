"""The advice on the page of a round."""

import pytest

from querytier.eval.report.round_page import headline, next_steps

PASSED = {"passed": True, "checks": [{"name": "quality at matched cost", "passed": True}]}


def failing(*names):
    checks = [{"name": name, "passed": False} for name in names]
    return {"passed": False, "checks": [*PASSED["checks"], *checks]}


def kept(fresh, frozen=PASSED):
    return {
        "verdict": "kept",
        "serves": "ab12",
        "champion": {"model_version": "ab12"},
        "challenger": {"model_version": "cd34"},
        "data": None,
        "drift": None,
        "certificate": None,
        "gate": {"fresh": fresh, "frozen": frozen},
    }


@pytest.mark.parametrize(
    ("fresh", "frozen", "step"),
    [
        ({"passed": False, "checks": []}, PASSED, "count as fresh in the next round"),
        (failing("superior on quality at matched cost"), PASSED, "no worse does not mean better"),
        (
            failing("calibration", "superior on quality"),
            PASSED,
            "may be worse (calibration, superior",
        ),
        (PASSED, failing("quality at matched cost"), "is worse than the champion"),
    ],
)
def test_the_advice_follows_from_the_reason_for_keeping_the_champion(fresh, frozen, step):
    steps = next_steps(kept(fresh, frozen))
    assert len(steps) == 1
    assert step in steps[0]


def test_a_champion_that_is_kept_stays_in_service():
    told = headline(kept(PASSED))
    assert told == "Kept: model ab12 stays in service; model cd34 did not pass the gate."
