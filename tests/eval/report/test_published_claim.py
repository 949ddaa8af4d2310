"""The published promise: kept, broken or open, by intervals."""

from dataclasses import replace

import numpy as np
import pytest

from querytier.data.examples import Examples
from querytier.eval.intervals import Resampling
from querytier.eval.rankings import oracle, probability_ranking
from querytier.eval.report.published_claim import promise_record


@pytest.fixture(scope="module")
def examples(run_dir):
    return Examples.read_parquet(run_dir / "data" / "examples.parquet")


def rows_of(examples):
    names = "classifier", "keyword_heuristic"
    noise = np.random.default_rng(0).random(len(examples))
    rankings = [probability_ranking(name, noise, "nothing") for name in names]
    resampling = Resampling(examples.group.tolist(), 200, 0)
    record = promise_record(examples, [*rankings, oracle(examples)], resampling)
    return record and {row["name"]: row for row in record["rows"]}


def test_the_oracle_keeps_more_than_noise_at_the_same_share(examples):
    rows = rows_of(examples)
    assert list(rows) == ["classifier", "keyword_heuristic", "oracle"]
    assert (
        rows["oracle"]["quality_retained"]["value"]
        > rows["classifier"]["quality_retained"]["value"]
    )
    assert rows["classifier"]["cheap_share"] == 0.78
    for row in rows.values():
        assert row["cheap_share_at_95"]["value"] >= row["cheap_share_at_99"]["value"]
        assert row["same_quality"] in {"kept", "broken", "open"}


def test_equal_models_keep_the_promise_and_a_useless_cheap_one_breaks_it(examples):
    ones, zeros = np.ones(len(examples)), np.zeros(len(examples))
    equal = rows_of(replace(examples, cheap_score=ones, frontier_score=ones))
    assert equal["classifier"]["same_quality"] == "kept"
    useless = rows_of(replace(examples, cheap_score=zeros, frontier_score=ones))
    assert useless["classifier"]["same_quality"] == "broken"
    assert useless["classifier"]["quality_retained"]["value"] == pytest.approx(0.22, abs=0.01)


def test_without_scores_there_is_nothing_to_test(examples):
    assert rows_of(replace(examples, cheap_score=np.full(len(examples), np.nan))) is None


def test_the_report_has_the_table(run_dir):
    report = (run_dir / "report.html").read_text("utf-8")
    assert "The published promise, put to the test" in report
