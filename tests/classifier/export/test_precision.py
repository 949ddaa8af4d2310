"""The precision of an encoder: quantised only if it decides as before."""

from dataclasses import replace

import numpy as np
import pytest

from querytier.classifier.export.flips import FlipBudget
from querytier.classifier.export.onnx_graph import trace
from querytier.classifier.export.precision import Quantising, choose_precision
from querytier.classifier.golden import golden_queries
from querytier.classifier.model.encoder import load_encoder
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Calibrated, Heads, Member
from querytier.classifier.model.nets import Linear
from querytier.data.text_view import text_view
from querytier.errors import ExportError

VIEWS = list(dict.fromkeys(filter(None, map(text_view, list(golden_queries())[::5]))))[:30]
WIDE, NARROW = FlipBudget(1.0, 1.0, 1.0), FlipBudget(1.0, 1.0, 1e-9)


@pytest.fixture(scope="module")
def features():
    return Features("one", load_encoder(layers=1))


@pytest.fixture(scope="module")
def traced(features, tmp_path_factory):
    path = tmp_path_factory.mktemp("traced") / "traced.onnx"
    trace(features, path)
    return path


@pytest.fixture(scope="module")
def fitted():
    weights = np.random.default_rng(0).normal(size=(1, 384))
    return Calibrated(Heads((Member(("one",), Linear(weights, np.zeros(1))),)), 0.5)


@pytest.fixture
def quantising(features, fitted):
    """Return settings whose calibration records its input."""

    def recalibrated(blocks):
        return replace(fitted, threshold=float(blocks["one"][0, 0]))

    embeddings = features.encoder.encode(VIEWS)
    return Quantising(("int8", "int8-weights"), VIEWS, embeddings, recalibrated, WIDE)


def test_the_first_precision_within_budget_is_used_and_calibrated(
    traced, features, fitted, quantising
):
    encoded = choose_precision(traced, features, fitted, quantising)
    assert encoded.precision == "int8"
    assert encoded.traced != traced
    assert encoded.calibrated.threshold == pytest.approx(quantising.embeddings[0, 0], abs=0.02)
    assert encoded.calibrated.threshold != quantising.embeddings[0, 0]
    (trial,) = encoded.report["trials"]
    assert (trial["precision"], trial["refusal"]) == ("int8", None)
    assert trial["drift"]["texts"] == len(VIEWS)
    assert encoded.report["budget"]["mean_difference"] == 1.0


def test_a_budget_that_only_the_closer_precision_meets_takes_it(
    traced, features, fitted, quantising
):
    tried = replace(quantising, budget=NARROW)
    trials = choose_precision(traced, features, fitted, tried).report["trials"]
    far, close = (trial["drift"]["mean_difference"] for trial in trials)
    assert close < far
    between = FlipBudget(1.0, 1.0, (close + far) / 2)
    encoded = choose_precision(traced, features, fitted, replace(quantising, budget=between))
    assert encoded.precision == "int8-weights"
    assert encoded.report["trials"][0]["refusal"].startswith("the mean difference in p_frontier")


def test_the_encoder_stays_float32_if_no_precision_is_within_budget(
    traced, features, fitted, quantising
):
    encoded = choose_precision(traced, features, fitted, replace(quantising, budget=NARROW))
    assert (encoded.precision, encoded.traced, encoded.calibrated) == ("fp32", traced, fitted)
    assert [trial["precision"] for trial in encoded.report["trials"]] == list(quantising.precisions)


def test_a_required_precision_beyond_budget_is_an_error_with_the_cure(
    traced, features, fitted, quantising
):
    required = replace(quantising, precisions=("int8",), budget=NARROW, required=True)
    with pytest.raises(ExportError, match=r"int8: the mean difference .* set export\.precision"):
        choose_precision(traced, features, fitted, required)


def test_nothing_is_tried_without_quantising(traced, features, fitted):
    encoded = choose_precision(traced, features, fitted, None)
    assert encoded.precision == "fp32"
    assert encoded.report["trials"] == []
