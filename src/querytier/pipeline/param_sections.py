"""The base of all sections of `params.yaml`, and the sections for the loop around a champion."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AuditFreshParams",
    "DriftParams",
    "GateParams",
    "NotNegative",
    "ParamSection",
    "Positive",
    "RecalibrateParams",
    "RetrainParams",
    "Seed",
    "SelectQueriesParams",
    "Share",
]

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # the range that NumPy and scikit-learn accept

# Holm's method compares the smallest p-value with the rate divided by the number of tests.
_TESTS_OF_DRIFT = 12


class ParamSection(BaseModel):
    """A section; it is frozen, and an unknown key is an error, so that a typo is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GateParams(ParamSection):
    """The non-inferiority margins at which a challenger replaces the champion."""

    quality_margin: Share = 0.01
    calibration_margin: Share = 0.01
    slice_margin: Share = 0.05
    latency_margin: Positive = 0.5
    # Same as the gate's SuperiorOn; importing that would make the stage prepare depend on the
    # classifier.
    superior_on: Literal["quality", "calibration", "worst_slice", "latency", "auroc"] = "quality"
    fewest_rows: Annotated[int, Field(ge=2)] = 200
    fewest_slice_rows: Annotated[int, Field(ge=1)] = 100
    latency_queries: Annotated[int, Field(ge=1)] = 200
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    seed: Seed = 17


class AuditFreshParams(ParamSection):
    """The audit that holds back suspicious new labels before they are merged."""

    enabled: bool = True
    level: Share = 0.01
    tolerated_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.02
    fewest_labels: Annotated[int, Field(ge=5)] = 20
    trusted_sources: tuple[str, ...] = ()
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    seed: Seed = 17


class DriftParams(ParamSection):
    """The tests for drift between two windows of traffic."""

    false_alarm_rate: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    permutations: Annotated[int, Field(ge=99)] = 9999
    fewest_groups: Annotated[int, Field(ge=20)] = 100
    most_rows: Annotated[int, Field(ge=100)] = 10_000
    near_duplicate_threshold: Annotated[float, Field(gt=0, le=1)] | None = 0.8
    least_index: NotNegative = 0.01
    least_distance: NotNegative = 0.03
    least_rate: NotNegative = 0.01
    least_unknown: NotNegative = 0.002
    least_calibration: NotNegative = 0.02
    seed: Seed = 17

    @model_validator(mode="after")
    def _can_reach_the_rate(self) -> "DriftParams":
        fewest = math.ceil(_TESTS_OF_DRIFT / self.false_alarm_rate)
        if self.permutations + 1 < fewest:
            raise ValueError(
                f"{self.permutations} permutations are too few for a false alarm rate of "
                f"{self.false_alarm_rate:g}; set at least {fewest}"
            )
        return self


class RetrainParams(ParamSection):
    """One round of the loop: which rows are merged with which weight, and when it runs."""

    window_days: Positive | None = 365
    half_life_days: Positive | None = 90
    largest_group_share: Annotated[float, Field(gt=0, le=1)] | None = 0.05
    largest_source_share: Annotated[float, Field(gt=0, le=1)] | None = None
    fewest_fresh_rows: Annotated[int, Field(ge=1)] = 100
    frozen_margin: Share = 0.02


class RecalibrateParams(ParamSection):
    """The new calibration and certificate from a few labels of another pair of models."""

    certification_share: Share = 0.5
    calibration: Literal["auto", "platt", "temperature", "beta"] = "platt"
    target_frontier_rate: Share | None = None
    seed: Seed = 17


class SelectQueriesParams(ParamSection):
    """Which queries to label next: the shares of the two reasons to select one."""

    uncovered: NotNegative = 0.5
    random: NotNegative = 0.5
    most_queries: Annotated[int, Field(ge=1)] = 20_000
    seed: Seed = 17

    @model_validator(mode="after")
    def _have_a_reason(self) -> "SelectQueriesParams":
        if not self.uncovered + self.random > 0:
            raise ValueError("both shares are 0; set at least one of them above 0")
        return self
