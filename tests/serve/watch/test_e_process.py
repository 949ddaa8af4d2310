"""The test by betting: laws of its capital, and its level."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.serve.watch.audits import Audit, AuditQueue
from querytier.serve.watch.e_process import EProcess

SHARES = st.floats(0.001, 0.999)
LOSSES = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), max_size=60)


def after(process, losses):
    for loss in losses:
        process = process.after(loss)
    return process


@given(SHARES, SHARES, LOSSES)
def test_the_capital_is_finite_and_never_negative(alpha, level, losses):
    process = EProcess(alpha, level)
    assert process.wealth == 1.0
    for loss in losses:
        process = process.after(loss)
        assert 0 <= process.wealth < math.inf
        assert min(process.stakes) >= 0
    assert process.count <= len(losses)


@given(SHARES, SHARES, LOSSES)
def test_a_fair_bet_keeps_the_mean_capital(alpha, level, losses):
    process = after(EProcess(alpha, level), losses)
    if process.fired:
        return
    won, lost = process.after(1.0).wealth, process.after(0.0).wealth
    assert alpha * won + (1 - alpha) * lost == pytest.approx(process.wealth)
    assert process.after(alpha).wealth == pytest.approx(process.wealth)
    assert lost <= process.wealth <= won


@given(SHARES, SHARES, st.integers(0, 400))
def test_a_stream_without_loss_never_fires(alpha, level, length):
    process = after(EProcess(alpha, level), [0.0] * length)
    assert not process.fired
    assert process.wealth <= 1


@given(SHARES, SHARES, LOSSES, st.floats(0, 1))
def test_a_test_that_has_fired_does_not_change(alpha, level, losses, loss):
    process = after(EProcess(alpha, level), losses)
    assert process.fired == (process.wealth >= process.needed)
    if process.fired:
        assert process.after(loss) is process


def test_a_promise_that_breaks_late_is_still_detected():
    """The capital bet at the start is lost by then; the capital that slept is still there."""
    process = after(EProcess(0.1, 0.05), [0.0] * 5000)
    assert sum(process.stakes) < 0.01
    assert process.wealth > 0.1
    assert after(process, [1.0, 0.0] * 30).fired


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_losses_and_levels_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        EProcess(0.1, 0.05).after(wrong)
    for name in ("alpha", "level"):
        with pytest.raises(ValueError, match=f"{name} is .* between 0 and 1"):
            EProcess(**{"alpha": 0.1, "level": 0.05, name: wrong})


@pytest.mark.slow
def test_few_kept_promises_fire_and_all_broken_ones_do():
    random = np.random.default_rng(17)
    kept = [after(EProcess(0.1, 0.05), random.random(600) < 0.1).fired for _ in range(150)]
    broken = [after(EProcess(0.1, 0.05), random.random(600) < 0.3).fired for _ in range(20)]
    assert sum(kept) <= 13, "of 150 streams at a level of 5%: more has a chance below 2%"
    assert all(broken)


# --- over a thousand streams


def independent(random, alpha, length):
    return (random.random(length) < alpha).astype(float).tolist()


def spread_by_the_past(random, alpha, length):
    """Losses of 0 and 1 while the mean is above alpha, else near alpha; the mean stays alpha."""
    losses, total = [], 0.0
    for number, draw in enumerate(random.random(length).tolist()):
        ahead = total >= alpha * number
        losses.append(float(draw < alpha) if ahead else alpha * (1.5 if draw < 0.5 else 0.5))
        total += losses[-1]
    return losses


def reported_late_and_out_of_order(random, alpha, length):
    """Failures are reported sooner, and some scores never."""
    losses = random.random(length) < alpha
    arrivals = np.arange(length) + random.exponential(np.where(losses, 20.0, 200.0))
    queue = AuditQueue(timeout_s=1000.0)
    for number in range(length):
        queue.add(Audit(str(number), float(number), "cheap"))
    out = []
    for number in np.argsort(arrivals).tolist():
        if random.random() < 0.97:
            scores = {"cheap_score": 1.0 - losses[number], "frontier_score": 1.0}
            queue.record(str(number), scores)
            out += queue.release(float(arrivals[number]))
    out += queue.release(math.inf)
    return [1.0 - audit.scores[0] for audit in out if audit.scores]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stream", [independent, spread_by_the_past, reported_late_and_out_of_order]
)
def test_false_alarms_on_a_thousand_streams_stay_within_the_level(stream):
    from scipy.stats import binomtest

    random = np.random.default_rng(17)
    fired = sum(after(EProcess(0.1, 0.05), stream(random, 0.1, 500)).fired for _ in range(1000))
    assert binomtest(fired, 1000, 0.05, alternative="greater").pvalue > 0.01
