"""Every parameter of the pipeline, as `params.yaml` holds them."""

import difflib
import math
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from querytier.data.labelling import AUTOMATIC_RULES, RuleName
from querytier.errors import UsageError
from querytier.eval.paired_gate import SuperiorOn

__all__ = [
    "AuditFreshParams",
    "Budget",
    "CertifyParams",
    "DriftParams",
    "EncoderDriftParams",
    "EvaluateParams",
    "ExportParams",
    "GateParams",
    "Params",
    "PlanLabelsParams",
    "PrepareParams",
    "PricesParams",
    "RecalibrateParams",
    "RetrainParams",
    "TierPriceParams",
    "TrainParams",
    "read_params",
    "validated",
    "with_section",
]

Share = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Budget = Literal["quick", "standard", "thorough"]
_TESTS_OF_DRIFT = 12  # Holm's step-down divides the rate by at most so many

Section = TypeVar("Section", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RoleShareParams(_Section):
    """Share of the groups that each role but training gets."""

    calibration: Share = 0.15
    certification: Share = 0.15
    test: Share = 0.2

    @model_validator(mode="after")
    def _leave_rows_to_train(self) -> "RoleShareParams":
        total = self.calibration + self.certification + self.test
        if total > 0.9:
            raise ValueError(f"the shares add up to {total:g}; leave at least 0.1 to training")
        return self


class PrepareParams(_Section):
    """From a log to examples with roles."""

    logs: str | tuple[str, ...] = "data/seed/seed.jsonl"
    map: dict[str, str] = Field(default_factory=dict)
    label_rules: Annotated[tuple[RuleName, ...], Field(min_length=1)] = AUTOMATIC_RULES
    ok_threshold: float = 0.5
    ok_thresholds: dict[str, float] = Field(default_factory=dict)
    margin: Annotated[float, Field(gt=0)] | None = None
    max_bad_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    near_duplicate_threshold: Annotated[float, Field(gt=0, le=1)] | None = 0.8
    near_duplicate_rows: Annotated[int, Field(ge=0)] = 200_000
    temporal: bool = False
    # YAML reads a bare on or off as a truth value.
    redaction: Annotated[
        Literal["off", "on", "fail"],
        BeforeValidator(lambda value: {True: "on", False: "off"}.get(value, value)),
    ] = "off"
    seed: Seed = 17
    shares: RoleShareParams = RoleShareParams()

    @property
    def log_files(self) -> tuple[str, ...]:
        """The logs, be they one or several."""
        return (self.logs,) if isinstance(self.logs, str) else self.logs


class TrainParams(_Section):
    """From examples to a fitted, calibrated classifier."""

    budget: Budget = "quick"
    regularisation: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (
        0.03,
        0.1,
        0.3,
        1.0,
        10.0,
    )
    terms_regularisation: Annotated[float, Field(gt=0)] = 0.5
    encoder: str | None = None
    teacher: str | None = None
    candidate: str | None = None
    calibration: Literal["auto", "platt", "temperature", "beta"] = "auto"
    search_trials: Annotated[int, Field(ge=1)] = 20
    search_storage: str | None = None
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    target_frontier_rate: Share = 0.3
    seed: Seed = 17


class EncoderDriftParams(_Section):
    """How far a quantised encoder may decide otherwise."""

    flip_share: Share = 0.035
    max_difference: Share = 0.05
    mean_difference: Share = 0.005


class ExportParams(_Section):
    """From a fitted classifier to an artifact."""

    parity_tolerance: Annotated[float, Field(gt=0)] = 1e-5
    parity_texts: Annotated[int, Field(ge=200)] = 300
    precision: Literal["auto", "fp32", "int8", "int8-weights"] = "auto"
    drift_texts: Annotated[int, Field(ge=1)] = 1000
    drift: EncoderDriftParams = EncoderDriftParams()
    fallback_tier: Literal["frontier", "cheap"] = "frontier"


class CertifyParams(_Section):
    """What the threshold is to promise."""

    risk: Literal["needs_frontier", "quality_lost"] = "needs_frontier"
    alpha: Share | None = None
    delta: Share = 0.1
    slices: tuple[str, ...] = ()
    labels_are_outcomes: bool = False
    valid_days: Annotated[int, Field(ge=1)] = 180
    seed: Seed = 17


class TierPriceParams(_Section):
    """What a tier's model charges."""

    per_million_in: NotNegative
    per_million_out: NotNegative
    output_tokens: NotNegative | None = None


class PricesParams(_Section):
    """A price table, in dollars."""

    cheap: TierPriceParams
    frontier: TierPriceParams
    decision: NotNegative = 0.0
    lost_cache_discount: NotNegative = 0.0
    source: str = ""


class EvaluateParams(_Section):
    """The offline report."""

    bootstrap: Annotated[int, Field(ge=100)] = 1000
    latency_decisions: Annotated[int, Field(ge=1)] = 200
    mistakes: Annotated[int, Field(ge=0, le=100)] = 10
    prices: PricesParams | None = None
    seed: Seed = 17


class GateParams(_Section):
    """When a challenger takes the champion's place."""

    quality_margin: Share = 0.01
    calibration_margin: Share = 0.01
    slice_margin: Share = 0.05
    latency_margin: Annotated[float, Field(gt=0)] = 0.5
    superior_on: SuperiorOn = "quality"
    fewest_rows: Annotated[int, Field(ge=2)] = 200
    fewest_slice_rows: Annotated[int, Field(ge=1)] = 100
    latency_queries: Annotated[int, Field(ge=1)] = 200
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    seed: Seed = 17


class AuditFreshParams(_Section):
    """Which new labels are held back before they are merged."""

    enabled: bool = True
    level: Share = 0.01
    tolerated_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.02
    fewest_labels: Annotated[int, Field(ge=5)] = 20
    trusted_sources: tuple[str, ...] = ()
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    seed: Seed = 17


class DriftParams(_Section):
    """When two windows of traffic count as drifted."""

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
                f"{self.permutations} permutations cannot tell a false alarm rate of "
                f"{self.false_alarm_rate:g}; give at least {fewest}"
            )
        return self


class RetrainParams(_Section):
    """One round of the loop: what is merged, and when a round is due."""

    window_days: Annotated[float, Field(gt=0)] | None = 365
    half_life_days: Annotated[float, Field(gt=0)] | None = 90
    largest_group_share: Annotated[float, Field(gt=0, le=1)] | None = 0.05
    largest_source_share: Annotated[float, Field(gt=0, le=1)] | None = None
    fewest_fresh_rows: Annotated[int, Field(ge=1)] = 100
    frozen_margin: Share = 0.02


class RecalibrateParams(_Section):
    """From few labels of another pair of models to another calibration."""

    certification_share: Share = 0.5
    calibration: Literal["auto", "platt", "temperature", "beta"] = "platt"
    target_frontier_rate: Share | None = None
    seed: Seed = 17


class PlanLabelsParams(_Section):
    """Which queries are labelled next: shares of the reasons to choose one."""

    uncertain: NotNegative = 0.0
    uncovered: NotNegative = 0.5
    drifted: NotNegative = 0.0
    random: NotNegative = 0.5
    most_queries: Annotated[int, Field(ge=1)] = 20_000
    seed: Seed = 17

    @model_validator(mode="after")
    def _have_a_reason(self) -> "PlanLabelsParams":
        if not self.uncertain + self.uncovered + self.drifted + self.random > 0:
            raise ValueError("all shares are 0; give one of them more")
        return self


class Params(_Section):
    """All sections, named like the stages."""

    prepare: PrepareParams = PrepareParams()
    train: TrainParams = TrainParams()
    export: ExportParams = ExportParams()
    certify: CertifyParams = CertifyParams()
    evaluate: EvaluateParams = EvaluateParams()
    gate: GateParams = GateParams()
    audit_fresh: AuditFreshParams = AuditFreshParams()
    drift: DriftParams = DriftParams()
    retrain: RetrainParams = RetrainParams()
    recalibrate: RecalibrateParams = RecalibrateParams()
    plan_labels: PlanLabelsParams = PlanLabelsParams()


def read_params(path: Path | None) -> Params:
    """Read a params file; what it leaves out keeps its default.

    Parameters
    ----------
    path : Path or None
        None gives the defaults.

    Raises
    ------
    UsageError
        If there is no such file, it is not YAML, a key is unknown or a value out of range.
    """
    import yaml

    if path is None:
        return Params()
    if not path.is_file():
        raise UsageError(f"no such params file: {path}")
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from error
    return validated(Params, content, str(path))


def with_section(params: Params, section: str, **said: object) -> Params:
    """Return the parameters with what the command line says of a section; None says nothing.

    Raises
    ------
    UsageError
        If a value is out of range.
    """
    before: BaseModel = getattr(params, section)
    changes = {name: value for name, value in said.items() if value is not None}
    after = validated(type(before), {**before.model_dump(), **changes}, "the command line")
    return params.model_copy(update={section: after})


def validated(model: type[Section], content: object, origin: str) -> Section:
    """Return a section, or all of them, of content that a person wrote.

    Raises
    ------
    UsageError
        If a key is unknown or a value out of range; the message names the origin.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_problem(model, detail) for detail in error.errors())
        raise UsageError(f"{origin}: {problems}") from error


def _problem(model: type[BaseModel], detail: object) -> str:
    assert isinstance(detail, dict)
    location = [str(part) for part in detail["loc"]]
    where = ".".join(location)
    if detail["type"] != "extra_forbidden":
        return f"{where} = {detail['input']!r}: {detail['msg']}"
    known = _keys_at(model, location[:-1])
    close = difflib.get_close_matches(location[-1], known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
    return f"{where}: unknown key; {hint}"


def _keys_at(section: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        annotation = section.model_fields[part].annotation
        assert isinstance(annotation, type)
        section = annotation
    return list(section.model_fields)
