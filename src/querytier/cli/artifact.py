"""The verbs that need only an artifact: `decide`, `score` and `artifact verify`."""

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querytier.cli.log_options import Cluster, EngineName, LogOptions, takes_log_options
from querytier.cli.options import Artifact, Logs, say

if TYPE_CHECKING:
    from querytier.classifier.manifest import Manifest

__all__ = ["artifact_app", "decide", "score"]

artifact_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check an artifact before it decides.",
)


def decide(
    query: Annotated[str, typer.Argument(help="The text of the query.")],
    artifact: Artifact,
) -> None:
    """Decide one query and print the decision as JSON."""
    from querytier.serve import Router

    typer.echo(json.dumps(Router.load(artifact).decide(query).to_dict()))


@takes_log_options
def score(
    logs: Logs,
    artifact: Artifact,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The .csv or .parquet file to write.")
    ],
    reading: LogOptions,
    engine: EngineName = "local",
    cluster: Cluster = None,
) -> None:
    """Decide every query in the logs and write the scores.

    The columns are id, p_frontier, decision_score and tier. Records that cannot be scored go to
    OUT.quarantine.jsonl.
    """
    from querytier.data.ingest.engines import engine as engine_named
    from querytier.pipeline.scoring import score_logs

    settings = reading.params()
    scored = score_logs(
        reading.sources(logs, settings),
        artifact,
        out,
        max_bad_share=settings.prepare.max_bad_share,
        engine=engine_named(engine, cluster),
    )
    counts = ", ".join(
        f"{name} {count}" for name, count in {**scored.tiers, **scored.reasons}.items()
    )
    say(f"{scored.rows} rows scored in {out} ({counts})")
    if scored.quarantined:
        say(f"{sum(scored.quarantined.values())} records in {out}.quarantine.jsonl")


# Typer turns an app with a single verb into that verb; with a callback, `verify` stays a verb.
@artifact_app.callback()
def _artifact() -> None:
    """Check an artifact before it decides."""


@artifact_app.command(epilog="Example: querytier artifact verify runs/first/model")
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an artifact.")],
) -> None:
    """Check an artifact's files and scores on this machine.

    Compares the hashes of all files and decides the golden queries again. An expired certificate is
    reported, but does not fail the check.
    """
    from querytier.classifier.artifact import GOLDEN
    from querytier.classifier.golden import replay_golden
    from querytier.classifier.runtime import Classifier

    # Not Router.load, which would go to the fallback tier if the certificate has expired.
    classifier = Classifier.load(folder)
    replay = replay_golden(classifier, folder / GOLDEN)
    manifest = classifier.manifest
    say(
        f"model {manifest.model_version} reads {manifest.input}, encoder in {manifest.precision}: "
        "all files are as exported"
    )
    say(
        f"{replay.vectors} golden vectors reproduced; scores differ by at most "
        f"{replay.max_difference:.1e}, {replay.beyond} of them by more than "
        f"{manifest.tolerance.difference:g}"
    )
    say(_certificate_state(folder, manifest))


def _certificate_state(folder: Path, manifest: "Manifest") -> str:
    """Return whether the artifact's certificate is valid, and until when."""
    from querytier.classifier.certificate import expiry, mismatch

    certificate = manifest.certificate
    if certificate.status != "granted":
        return f"certificate {certificate.status}: {certificate.reason}"
    wrong, until = mismatch(folder, manifest), expiry(certificate)
    if wrong is not None:
        return f"certificate granted, but {wrong}: the fallback tier answers"
    if until == math.inf:
        return "certificate granted, without an expiry date"
    day = certificate.details["expires"]
    if time.time() >= until:
        return f"certificate granted, but expired on {day}: the fallback tier answers"
    return f"certificate granted, valid until {day}"
