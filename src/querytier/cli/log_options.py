"""The options by which the command line is told how to read a log: one set for every verb."""

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

__all__ = ["Cluster", "EngineName", "LogOptions", "Logs", "say", "takes_log_options"]

Logs = Annotated[
    list[Path],
    typer.Argument(metavar="LOGS...", help="JSONL, CSV, TSV (each also .gz) or Parquet."),
]
EngineName = Annotated[
    str,
    typer.Option("--engine", help="local reads one file after the other; daft reads many at once."),
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="ADDRESS", help="The Ray cluster on which daft runs."),
]


@dataclass(frozen=True)
class LogOptions:
    """What the command line says of how logs are to be read; None where it says nothing."""

    map_text: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN,...",
            help="Where the log has each field; dotted paths reach into nested fields. The README "
            "lists the fields. Without it, columns of the fields' own names are taken.",
        ),
    ] = None
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="plain, querytier (our own decision log), otel (OpenInference too), litellm, "
            "litellm_spend, langfuse, helicone, arena, routellm, routerbench, llmrouter; "
            "auto tells it by the first record, and takes logs that come with --map as plain.",
        ),
    ] = "auto"
    cheap: Annotated[
        str | None,
        typer.Option("--cheap", metavar="MODEL", help="The cheap model's name in the log."),
    ] = None
    frontier: Annotated[
        str | None, typer.Option("--frontier", metavar="MODEL", help="The frontier model's name.")
    ] = None
    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores",
            metavar="FILE",
            help="Judgements in a file of their own: Langfuse's scores, OpenTelemetry's logs, the "
            "outcomes.jsonl of our own decision log.",
        ),
    ] = None
    ok_thresholds: Annotated[
        list[str] | None,
        typer.Option(
            "--ok-threshold",
            metavar="SCORE",
            help="A score of at least this much counts as success; SOURCE=SCORE sets it for the "
            "records of one source, and may be given again.",
        ),
    ] = None
    label_rules: Annotated[
        str | None,
        typer.Option(
            "--label-rules",
            metavar="RULE,...",
            help="Which rules make labels, the first that can: explicit, graded_samples, "
            "cheap_fails_frontier_succeeds, quality_gap, preference, feedback. Without it all that "
            "the mapped columns serve, but for quality_gap.",
        ),
    ] = None
    margin: Annotated[
        float | None,
        typer.Option("--margin", help="The gap in score that quality_gap finds worth paying for."),
    ] = None
    params_file: Annotated[
        Path | None,
        typer.Option("--params", metavar="FILE", help="A params.yaml with other defaults."),
    ] = None

    def params(self, default_file: Path | None = None, logs: Sequence[Path] = ()) -> "Params":
        """Return the parameters of the file, with what the command line says put in their place.

        Raises
        ------
        UsageError
            If there is no such file, or a value is out of range.
        """
        from querytier.pipeline.params import PrepareParams, read_params, validated

        params = read_params(self.params_file or default_file)
        said: dict[str, Any] = {
            "logs": [str(path) for path in logs] or None,
            "map": self._paths(),
            "label_rules": self.label_rules and _listed(self.label_rules),
            "margin": self.margin,
            **_thresholds(self.ok_thresholds or []),
        }
        said = {name: value for name, value in said.items() if value is not None}
        section = {**params.prepare.model_dump(), **said}
        prepare = validated(PrepareParams, section, "the command line")
        return params.model_copy(update={"prepare": prepare})

    @property
    def names_rules(self) -> bool:
        """Whether the command line says anything of labels."""
        return any((self.ok_thresholds, self.label_rules, self.margin))

    def sources(self, logs: Sequence[Path], params: "Params") -> "list[LogSource]":
        """Return the log files; those of the params file where none is named.

        Raises
        ------
        UsageError
            If the format is none known, or only one model of the pair is named.
        """
        from querytier.data.formats.recognise import Format
        from querytier.data.ingest.sources import LogSource
        from querytier.data.model_pair import ModelPair

        known = [item.value for item in Format]
        if self.format_name not in ("auto", *known):
            raise UsageError(f"--format {self.format_name!r}: known are auto, {', '.join(known)}")
        if bool(self.cheap) != bool(self.frontier):
            raise UsageError("--cheap and --frontier go together: name both models of the pair")
        paths = list(logs) or [Path(path) for path in params.prepare.log_files]
        return [
            LogSource(
                path,
                None if self.format_name == "auto" else Format(self.format_name),
                ModelPair(self.cheap, self.frontier) if self.cheap and self.frontier else None,
                self.scores,
                params.prepare.map,
                f"{path}:" if len(paths) > 1 else "",
                tuple(paths),
            )
            for path in paths
        ]

    def as_typed(self) -> str:
        """Return what the command line says, as it is typed, with a blank before each option."""
        words: list[str] = []
        for field in fields(self):
            said, (_, option) = getattr(self, field.name), get_args(field.type)
            # typer keeps the first name of an annotated option where its default would be.
            name = str(option.default)
            if said not in (None, [], field.default):
                for value in said if isinstance(said, list) else [said]:
                    words += [name, str(value)]
        return "".join(f" {shlex.quote(word)}" for word in words)

    def _paths(self) -> dict[str, str] | None:
        from querytier.data.column_map import parse_paths

        return None if self.map_text is None else parse_paths(self.map_text)


def takes_log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `LogOptions` in place of its parameter `reading`."""
    options = get_type_hints(LogOptions, include_extras=True)
    own = get_type_hints(command, include_extras=True)
    del own["reading"]

    @wraps(command)
    def with_options(**values: Any) -> None:
        said = {field.name: values.pop(field.name) for field in fields(LogOptions)}
        command(**values, reading=LogOptions(**said))

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


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _thresholds(said: Iterable[str]) -> dict[str, Any]:
    """Return the threshold for all sources, and those of single ones, where they are said."""
    thresholds: dict[str, Any] = {}
    for text in said:
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


def say(text: str) -> None:
    """Tell what was done, as all verbs tell it."""
    typer.echo(f"[querytier] {text}")
