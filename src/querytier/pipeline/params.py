"""Every parameter of `params.yaml`, with its type, range and default."""

import difflib
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from querytier.data.labelling import AUTOMATIC_RULES, RuleName
from querytier.errors import UsageError
from querytier.eval.prices import Prices
from querytier.pipeline.param_sections import (
    AuditFreshParams,
    DriftParams,
    GateParams,
    ParamSection,
    Positive,
    RecalibrateParams,
    RetrainParams,
    Seed,
    SelectQueriesParams,
    Share,
)

__all__ = [
    "Budget",
    "CertifyParams",
    "EncoderDriftParams",
    "EvaluateParams",
    "ExportParams",
    "Params",
    "PrepareParams",
    "TrainParams",
    "read_params",
    "with_section",
]

Budget = Literal["quick", "standard", "thorough"]

Section = TypeVar("Section", bound=BaseModel)

_REGULARISATION = (0.03, 0.1, 0.3, 1.0, 10.0)
_OLD_KEYS = {
    "plan_labels": "is called select_queries now",
    "select_queries.uncertain": "was removed because it never helped; delete it",
    "select_queries.drifted": "was removed because it never helped; delete it",
}


class SplitShareParams(ParamSection):
    """Shares of the groups for each split; training gets the rest."""

    calibration: Share = 0.15
    certification: Share = 0.15
    test: Share = 0.2

    @model_validator(mode="after")
    def _leave_rows_to_train(self) -> "SplitShareParams":
        total = self.calibration + self.certification + self.test
        if total > 0.9:
            raise ValueError(f"the shares add up to {total:g}; leave at least 0.1 to training")
        return self


class PrepareParams(ParamSection):
    """Logs to labelled examples in splits."""

    logs: str | tuple[str, ...] = "data/seed/seed.jsonl"
    map: dict[str, str] = Field(default_factory=dict)
    label_rules: Annotated[tuple[RuleName, ...], Field(min_length=1)] = AUTOMATIC_RULES
    ok_threshold: float = 0.5
    ok_thresholds: dict[str, float] = Field(default_factory=dict)
    margin: Positive | None = None
    # Rows without a label are not bad: a log of one-sided answers would stop the run.
    max_bad_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    near_duplicate_threshold: Annotated[float, Field(gt=0, le=1)] | None = 0.8
    near_duplicate_rows: Annotated[int, Field(ge=0)] = 200_000
    temporal: bool = False
    # YAML 1.1 reads a bare on or off as a boolean.
    redaction: Annotated[
        Literal["off", "on", "fail"],
        BeforeValidator(lambda value: {True: "on", False: "off"}.get(value, value)),
    ] = "off"
    # Another seed moves rows between splits: a champion may then have been trained on test rows.
    seed: Seed = 17
    shares: SplitShareParams = SplitShareParams()

    @property
    def log_files(self) -> tuple[str, ...]:
        """The logs, one or several."""
        return (self.logs,) if isinstance(self.logs, str) else self.logs


class TrainParams(ParamSection):
    """Examples to a fitted, calibrated classifier."""

    budget: Budget = "quick"
    regularisation: Annotated[tuple[Positive, ...], Field(min_length=1)] = _REGULARISATION
    terms_regularisation: Positive = 0.5
    encoder: str | None = None
    teacher: str | None = None
    candidate: str | None = None
    calibration: Literal["auto", "platt", "temperature", "beta"] = "auto"
    search_trials: Annotated[int, Field(ge=1)] = 20
    search_storage: str | None = None
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    target_frontier_rate: Share = 0.3
    seed: Seed = 17


class EncoderDriftParams(ParamSection):
    """Largest differences that a quantised encoder may make to decisions."""

    flip_share: Share = 0.035
    max_difference: Share = 0.05
    mean_difference: Share = 0.005


class ExportParams(ParamSection):
    """A fitted classifier to an artifact."""

    parity_tolerance: Positive = 1e-5
    parity_texts: Annotated[int, Field(ge=200)] = 300
    precision: Literal["auto", "fp32", "int8", "int8-weights"] = "auto"
    # On few rows no quantised encoder passes: 2 flips of 162 have an upper end of 4.4%.
    drift_texts: Annotated[int, Field(ge=1)] = 1000
    drift: EncoderDriftParams = EncoderDriftParams()
    fallback_tier: Literal["frontier", "cheap"] = "frontier"


class CertifyParams(ParamSection):
    """The risk that the threshold promises."""

    risk: Literal["needs_frontier", "quality_lost"] = "needs_frontier"
    alpha: Share | None = None
    delta: Share = 0.1
    slices: tuple[str, ...] = ()
    labels_are_outcomes: bool = False
    valid_days: Annotated[int, Field(ge=1)] = 180
    seed: Seed = 17


class EvaluateParams(ParamSection):
    """The offline report."""

    bootstrap: Annotated[int, Field(ge=100)] = 1000
    latency_decisions: Annotated[int, Field(ge=1)] = 200
    mistakes: Annotated[int, Field(ge=0, le=100)] = 10
    prices: Prices | None = None
    seed: Seed = 17

    @property
    def routing_cost(self) -> float:
        """Cost of routing a query, in dollars; 0 without a price table."""
        return self.prices.routing_cost if self.prices else 0.0


class Params(ParamSection):
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
    select_queries: SelectQueriesParams = SelectQueriesParams()


def read_params(path: Path | None) -> Params:
    """Read a params file; missing keys keep their defaults.

    Parameters
    ----------
    path : Path or None
        None gives the defaults.

    Raises
    ------
    UsageError
        If there is no such file, it is not YAML, a key is unknown, or a value is out of range.
    """
    import yaml

    if path is None:
        return Params()
    if not path.is_file():
        raise UsageError(f"no such params file: {path}; name another one with --params FILE")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML in UTF-8: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(
            f"{path} holds {content!r}; write one section or more, such as "
            "'gate: {fewest_rows: 200}'"
        )
    return _validated(Params, content, str(path))


def with_section(params: Params, section: str, **values: object) -> Params:
    """Return the parameters with a section's values from the command line; None changes nothing.

    Raises
    ------
    UsageError
        If a value is out of range.
    """
    before: BaseModel = getattr(params, section)
    changes = {name: value for name, value in values.items() if value is not None}
    after = _validated(type(before), {**before.model_dump(), **changes}, "the command line")
    return params.model_copy(update={section: after})


def _validated(model: type[Section], content: object, origin: str) -> Section:
    """Return a section, or all sections, from content that a person wrote.

    Raises
    ------
    UsageError
        If a key is unknown, or a value is out of range; the message names the origin.
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
    if detail["type"] not in {"extra_forbidden", "unexpected_keyword_argument"}:
        return f"{where} = {detail['input']!r}: {detail['msg']}"
    if where in _OLD_KEYS:
        return f"{where} {_OLD_KEYS[where]}"
    known = _keys_at(model, location[:-1])
    close = difflib.get_close_matches(location[-1], known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
    return f"{where}: unknown key; {hint}"


def _keys_at(section: type, location: list[str]) -> list[str]:
    for part in location:
        annotation = get_type_hints(section)[part]
        # An optional section, `Prices | None`, is a union: its section comes first.
        section = next(iter(get_args(annotation)), annotation)
    return [name for name in get_type_hints(section) if not name.startswith(("_", "model_"))]
