"""Calibration: how it is fitted and chosen, and the check by Venn-Abers."""

import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from querytier.classifier.model.calibrator import Calibrator
from querytier.errors import MissingExtraError, TrainingError
from querytier.training.calibration import fit_calibrator, fit_platt, smoothed_targets
from querytier.training.venn_abers import venn_abers_check

METHODS = ["platt", "temperature", "beta"]
SKEWED = Calibrator(3.0, 0.3, 0.5)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def fitted(logits, labels, method="auto", weights=None, *, groups=None, seed=0):
    weights = np.ones(len(logits)) if weights is None else weights
    groups = np.arange(len(logits)).astype(object) if groups is None else groups
    return fit_calibrator(logits, labels, weights, groups, method=method, seed=seed)


def drawn(truth, count, seed=0):
    """Log-odds, and labels of the probabilities that `truth` calibrates them to."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2, size=count)
    return logits, (random.random(count) < sigmoid(truth.logits(logits))).astype(float)


def smoothed_loss(calibrator, logits, labels, weights):
    z, targets = calibrator.logits(logits), smoothed_targets(labels, weights)
    return float(weights @ (np.logaddexp(0, z) - targets * z) / weights.sum())


@pytest.mark.parametrize(
    ("method", "truth"),
    [
        ("platt", Calibrator(0.4, 0.4, -1.0)),
        ("temperature", Calibrator(2.5, 2.5, 0.0)),
        ("temperature", Calibrator(0.2, 0.2, 0.0)),
        ("beta", SKEWED),
        ("beta", Calibrator(0.0, 1.5, -0.5)),
        ("beta", Calibrator(0.4, 0.4, -1.0)),
    ],
)
def test_each_method_recovers_its_own_parameters(method, truth):
    logits = np.linspace(-4, 4, 8001)
    found = fitted(logits, sigmoid(truth.logits(logits)), method)
    points = np.linspace(-4, 4, 9)
    wanted = sigmoid(truth.logits(points))
    np.testing.assert_allclose(sigmoid(found.calibrator.logits(points)), wanted, atol=2e-3)
    assert (found.method, found.n, found.log_losses) == (method, 8001, {})
    assert found.reason == f"{method}: requested"


@given(st.floats(0.3, 3), st.floats(-2, 2))
def test_platt_scaling_recovers_slope_and_offset(slope, offset):
    logits = np.linspace(-4, 4, 4001)
    soft = 1 / (1 + np.exp(-(slope * logits + offset)))
    found = fit_platt(logits, soft, np.ones(4001))
    assert found == pytest.approx((slope, offset), rel=0.05, abs=0.02)


ROWS = st.lists(
    st.tuples(
        st.floats(-30, 30).map(lambda z: round(z, 3)),
        st.sampled_from([0.0, 0.2, 0.5, 1.0]),
        st.sampled_from([0.5, 1.0, 3.0]),
    ),
    min_size=3,
    max_size=40,
).map(lambda rows: np.array(rows).T)


@settings(max_examples=30, deadline=None)
@given(ROWS)
@example(np.array([(0.0, 0.5, 0.5), (1.0, 0.0, 0.5), (-13.375, 1.0, 3.0)]).T)
def test_a_method_with_more_parameters_fits_no_worse(rows):
    logits, labels, weights = rows
    platt, temperature, beta = (
        smoothed_loss(fitted(logits, labels, method, weights).calibrator, *rows)
        for method in METHODS
    )
    if len(np.unique(logits)) > 1 and len(np.unique(labels)) > 1:
        assert beta <= platt + 1e-6
        assert platt <= temperature + 1e-6


@settings(max_examples=30, deadline=None)
@given(ROWS, st.sampled_from(METHODS))
def test_no_fit_reverses_the_ranking_or_diverges(rows, method):
    logits, labels, weights = rows
    found = fitted(logits, labels, method, weights).calibrator
    calibrated = found.logits(np.linspace(-30, 30, 50))
    assert np.isfinite(calibrated).all()
    assert (np.diff(calibrated) >= -1e-9 * (1 + np.abs(calibrated).max())).all()


@settings(max_examples=30, deadline=None)
@given(ROWS, st.sampled_from(METHODS))
def test_a_weight_counts_as_a_number_of_rows(rows, method):
    logits, labels, weights = rows
    twice = np.repeat(rows, 2, axis=1)
    one = fitted(logits, labels, method, 2 * weights).calibrator
    other = fitted(*twice[:2], method, twice[2]).calibrator
    # If the loss is nearly flat, its minimum is found, but the parameters are not unique.
    assert smoothed_loss(one, logits, labels, 2 * weights) == pytest.approx(
        smoothed_loss(other, logits, labels, 2 * weights), abs=1e-5
    )


@pytest.mark.parametrize("method", METHODS)
def test_log_odds_in_the_thousands_are_calibrated(method):
    logits, labels = drawn(Calibrator(1.0, 1.0, 0.0), 400)
    small = fitted(logits, labels, method).calibrator.logits(logits)
    found = fitted(logits * 2000, labels, method).calibrator
    if method == "beta":
        assert found.rising > 0
        assert found.falling > 0
    else:
        np.testing.assert_allclose(found.logits(logits * 2000), small, atol=0.02)


def test_labels_against_the_head_give_a_flat_calibration():
    logits = np.linspace(-2, 2, 100)
    for method in METHODS:
        calibrator = fitted(logits, (logits < 0).astype(float), method).calibrator
        assert np.ptp(sigmoid(calibrator.logits(logits))) < 1e-3


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize(
    ("logits", "labels", "what"),
    [
        (np.full(300, 1.5), np.tile([0.0, 0.0, 1.0], 100), "all 300 log-odds are 1.5"),
        (np.linspace(-2, 2, 300), np.ones(300), "all 300 labels are 1"),
        (np.zeros(300), np.zeros(300), "all 300 labels are 0"),
    ],
)
def test_uniform_rows_give_every_query_the_same_probability(method, logits, labels, what):
    found = fitted(logits, labels, method)
    p = sigmoid(found.calibrator.logits(np.array([-50.0, 0.0, 50.0])))
    assert p == pytest.approx(np.full(3, labels.mean()), abs=0.005)
    assert found.reason == f"platt: {what}, so every query gets the same probability"
    assert found.log_losses == {}


def test_auto_chooses_beta_if_only_beta_fits():
    logits, labels = drawn(SKEWED, 4000)
    found = fitted(logits, labels)
    assert (found.method, found.reason) == ("beta", "beta: the lowest cross-validated log loss")
    assert list(found.log_losses) == METHODS
    assert found.log_losses["beta"] < min(
        found.log_losses["platt"], found.log_losses["temperature"]
    )
    assert found.calibrator == fitted(logits, labels, "beta").calibrator


def test_auto_mostly_chooses_platt_if_platt_is_right():
    picks = []
    for seed in range(6):
        found = fitted(*drawn(Calibrator(0.5, 0.5, -1.0), 600, seed))
        best = min(found.log_losses, key=found.log_losses.get)
        assert found.reason == (
            f"{found.method}: the lowest cross-validated log loss"
            if found.method == best
            else f"{found.method}: the first choice within one standard error of the best, {best}"
        )
        picks.append(found.method)
    assert picks.count("platt") >= 4


def test_the_same_seed_makes_the_same_choice():
    logits, labels = drawn(SKEWED, 600)
    assert fitted(logits, labels, seed=3) == fitted(logits, labels, seed=3)


def test_five_groups_are_the_five_folds():
    logits, labels = drawn(SKEWED, 500)
    groups = (np.arange(500) % 5).astype(object)
    losses = {method: [] for method in METHODS}
    for group in range(5):
        held_out = groups == group
        for method in METHODS:
            z = fitted(logits[~held_out], labels[~held_out], method).calibrator.logits(logits)
            losses[method].append((np.logaddexp(0, z) - labels * z)[held_out].mean())
    expected = {method: pytest.approx(np.mean(values)) for method, values in losses.items()}
    assert fitted(logits, labels, groups=groups, seed=1).log_losses == expected


def test_a_fold_with_one_class_gets_a_constant():
    groups = np.repeat(np.arange(6), 50).astype(object)
    found = fitted(np.linspace(-2, 2, 300), (groups == 5).astype(float), groups=groups)
    assert np.isfinite(list(found.log_losses.values())).all()
    assert min(found.log_losses.values()) > 0.5


@pytest.mark.parametrize(
    ("count", "group_count", "needy", "what"),
    [
        (199, 199, 60, "199 rows"),
        (300, 4, 60, "4 groups"),
        (300, 300, 4, "4 rows of the rarer class"),
        (40, 2, 9, "40 rows and 2 groups"),
    ],
)
def test_too_few_rows_to_compare_methods_use_platt(count, group_count, needy, what):
    logits = np.random.default_rng(0).normal(size=count)
    labels = (np.arange(count) < needy).astype(float)
    groups = (np.arange(count) % group_count).astype(object)
    found = fitted(logits, labels, groups=groups)
    assert found.reason == f"platt: {what} are too few to compare methods"
    assert found.calibrator == fitted(logits, labels, "platt").calibrator


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="'isotonic' is not a calibration; choose auto or one of"):
        fitted(np.arange(3.0), np.array([0.0, 1.0, 1.0]), "isotonic")


def pairs_by_refitting(logits, labels, points):
    """Venn-Abers by its definition: two isotonic regressions for each row."""
    regressions = [
        IsotonicRegression().fit(np.append(logits, z), np.append(labels, label)).predict([z])[0]
        for z in points
        for label in (0.0, 1.0)
    ]
    return np.array(regressions).reshape(-1, 2).T


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(-9, 9), st.sampled_from([0.0, 0.25, 0.75, 1.0])), min_size=1),
    st.lists(st.tuples(st.integers(-11, 11), st.floats(0, 1)), min_size=1, max_size=5),
)
def test_the_check_equals_isotonic_regressions_on_hard_labels(rows, checked_rows):
    logits, labels = np.array(rows, dtype=float).T
    points, p = np.array(checked_rows, dtype=float).T
    low, high = pairs_by_refitting(logits, (labels > 0.5).astype(float), points)
    found = venn_abers_check(logits, labels, points, p)
    assert found.n == len(p)
    assert found.mean_width == pytest.approx((high - low).mean())
    distance = np.abs(p - high / (1 - low + high))
    assert found.mean_distance == pytest.approx(distance.mean())
    clear = np.minimum(np.abs(p - low), np.abs(p - high)) > 1e-9
    if clear.all():
        assert found.share_inside == ((low < p) & (p < high)).mean()


def test_the_check_drops_labels_of_one_half():
    logits, labels = drawn(SKEWED, 100)
    points, p = np.array([-1.0, 1.0]), np.array([0.2, 0.8])
    more = np.append(logits, [0.0, 3.0]), np.append(labels, [0.5, 0.5])
    assert venn_abers_check(*more, points, p) == venn_abers_check(logits, labels, points, p)
    with pytest.raises(TrainingError, match=r"all 3 calibration labels are 0\.5"):
        venn_abers_check(np.arange(3.0), np.full(3, 0.5), points, p)


def test_the_check_finds_a_calibration_that_does_not_fit():
    logits, labels = drawn(SKEWED, 2000)
    points = np.linspace(-4, 4, 200)
    fits, does_not = (
        venn_abers_check(logits, labels, points, sigmoid(calibrator.logits(points)))
        for calibrator in (SKEWED, Calibrator(0.2, 0.2, 0.0))
    )
    assert fits.mean_width == does_not.mean_width < 0.05
    assert fits.mean_distance < 0.05 < does_not.mean_distance
    assert fits.share_inside > does_not.share_inside


def test_the_check_changes_no_numpy_settings():
    before = np.geterr()
    sys.modules.pop("venn_abers.venn_abers", None)
    sys.modules.pop("venn_abers", None)
    venn_abers_check(np.arange(2.0), np.array([0.0, 1.0]), np.zeros(1), np.zeros(1))
    assert np.geterr() == before


def test_the_error_without_venn_abers_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "venn_abers", None)
    with pytest.raises(MissingExtraError, match="venn_abers is not installed"):
        venn_abers_check(np.arange(2.0), np.array([0.0, 1.0]), np.zeros(1), np.zeros(1))
