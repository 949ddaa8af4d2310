"""The options for reading logs, the same for every verb that reads logs."""

import inspect
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from querytier.errors import UsageError

if TYPE_CHECKING:
    from querytier.data.ingest.sources import LogSource
    from querytier.pipeline.params import Params

__all__ = ["Cluster", "EngineName", "LogOptions", "takes_log_options"]

EngineName = Annotated[
    str,
    typer.Option(
        "--engine", help="How to read logs: local one file after the other, daft several at once."
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="ADDRESS", help="Address of the Ray cluster for daft."),
]


@dataclass(frozen=True)
class LogOptions:
    """How to read logs, as typed on the command line; None for an option that was not given."""

    map_text: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN,...",
            help="Column of each field; dotted paths reach into nested columns. By default, a "
            "field is read from the column of its own name. docs/LOGS.md lists the fields.",
        ),
    ] = None
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="Format: plain, querytier (our own decision log), otel (OpenInference too), "
            "litellm, litellm_spend, langfuse, helicone, arena, routellm, routerbench or "
            "llmrouter. auto recognises the format from the first record; a log with --map "
            "is plain.",
        ),
    ] = "auto"
    cheap: Annotated[
        str | None,
        typer.Option("--cheap", metavar="MODEL", help="Name of the cheap model in the log."),
    ] = None
    frontier: Annotated[
        str | None,
        typer.Option("--frontier", metavar="MODEL", help="Name of the frontier model in the log."),
    ] = None
    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores",
            metavar="FILE",
            help="Judgements in a separate file: Langfuse's scores, OpenTelemetry's logs, or the "
            "outcomes.jsonl of our own decision log.",
        ),
    ] = None
    ok_thresholds: Annotated[
        list[str] | None,
        typer.Option(
            "--ok-threshold",
            metavar="SCORE",
            help="Lowest score that counts as success. SOURCE=SCORE sets it for the records of one "
            "source and may be repeated.",
        ),
    ] = None
    label_rules: Annotated[
        str | None,
        typer.Option(
            "--label-rules",
            metavar="RULE,...",
            help="Rules that make labels; the first that applies wins: explicit, graded_samples, "
            "cheap_fails_frontier_succeeds, quality_gap, preference, feedback. Default: all that "
            "the mapped columns allow, except quality_gap.",
        ),
    ] = None
    margin: Annotated[
        float | None,
        typer.Option("--margin", help="Smallest gap in score that quality_gap labels as 1."),
    ] = None
    params_file: Annotated[
        Path | None,
        typer.Option(
            "--params",
            metavar="FILE",
            help="A params.yaml; options of the command take precedence.",
        ),
    ] = None

    def params(self, default_file: Path | None = None, logs: Sequence[Path] = ()) -> "Params":
        """Return the parameters of the file, overridden by the command line.

        Raises
        ------
        UsageError
            If there is no such file, or a value is out of range.
        """
        from querytier.data.column_map import parse_paths
        from querytier.pipeline.params import read_params, with_section

        rules = [rule.strip() for rule in (self.label_rules or "").split(",") if rule.strip()]
        params = read_params(self.params_file or default_file)
        given: dict[str, Any] = {
            "logs": [str(path) for path in logs] or None,
            "map": None if self.map_text is None else parse_paths(self.map_text),
            "label_rules": rules or None,
            "margin": self.margin,
            **_thresholds(self.ok_thresholds or []),
        }
        return with_section(params, "prepare", **given)

    @property
    def names_rules(self) -> bool:
        """Whether the command line changes how labels are made."""
        return any((self.ok_thresholds, self.label_rules, self.margin))

    def sources(self, logs: Sequence[Path], params: "Params") -> "list[LogSource]":
        """Return the log files; if none is named, those of the params file.

        Raises
        ------
        UsageError
            If the format is unknown, or only one model of the pair is named.
        """
        from querytier.data.formats.recognise import Format
        from querytier.data.ingest.sources import LogSource
        from querytier.data.model_pair import ModelPair

        known = [item.value for item in Format]
        if self.format_name not in ("auto", *known):
            raise UsageError(f"--format {self.format_name!r}: use auto, {', '.join(known)}")
        if bool(self.cheap) != bool(self.frontier):
            raise UsageError("--cheap and --frontier go together: give both models of the pair")
        paths = list(logs) or [Path(path) for path in params.prepare.log_files]
        return [
            LogSource(
                path,
                None if self.format_name == "auto" else Format(self.format_name),
                ModelPair(self.cheap, self.frontier) if self.cheap and self.frontier else None,
                self.scores,
                params.prepare.map,
                # Ids such as line-7 are unique within a file only.
                f"{path}:" if len(paths) > 1 else "",
                tuple(paths),
            )
            for path in paths
        ]

    def as_typed(self) -> str:
        """Return the options as typed, each after a space, for the suggestion of a next command."""
        words: list[str] = []
        for field in fields(self):
            given, (_, option) = getattr(self, field.name), get_args(field.type)
            # In an annotation, typer keeps the first name of an option as its default.
            name = str(option.default)
            if given not in (None, [], field.default):
                for value in given if isinstance(given, list) else [given]:
                    words += [name, str(value)]
        return "".join(f" {shlex.quote(word)}" for word in words)


def takes_log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's parameter `reading` by the options of `LogOptions`.

    Typer reads a function's signature. Nine options in the signatures of ten verbs would be ninety
    places to keep equal, so the signature is built here.
    """
    options = get_type_hints(LogOptions, include_extras=True)
    own = get_type_hints(command, include_extras=True)
    del own["reading"]

    @wraps(command)
    def with_options(**values: Any) -> None:
        given = {field.name: values.pop(field.name) for field in fields(LogOptions)}
        command(**values, reading=LogOptions(**given))

    kept = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=own[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "reading"
    ]
    added = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=options[field.name],
        )
        for field in fields(LogOptions)
    ]
    with_options.__annotations__ = {**own, **options}
    with_options.__signature__ = inspect.Signature([*kept, *added])  # type: ignore[attr-defined]
    return with_options


def _thresholds(texts: Iterable[str]) -> dict[str, Any]:
    """Return the values of `--ok-threshold` as parameters of the section prepare."""
    thresholds: dict[str, Any] = {}
    for text in texts:
        # Split at the last equals sign: a source's name may contain one, a number does not.
        source, equals, score = text.rpartition("=")
        try:
            number = float(score)
        except ValueError:
            raise UsageError(
                f"--ok-threshold {text!r}: write a number, or SOURCE=NUMBER for one source"
            ) from None
        if equals:
            thresholds.setdefault("ok_thresholds", {})[source] = number
        else:
            thresholds["ok_threshold"] = number
    return thresholds
