"""The verbs `querytier artifact ...`: what to do with an artifact that came from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from querytier.log_options import say

__all__ = ["artifact_app"]

artifact_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Check an artifact before it decides.",
)


@artifact_app.callback()
def _artifact() -> None:
    """Check an artifact before it decides."""


@artifact_app.command(epilog="Example: querytier artifact verify runs/first/model")
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an artifact.")],
) -> None:
    """Check files, graph and golden vectors on this machine; expiry is not looked at."""
    from querytier.classifier.artifact import GOLDEN
    from querytier.classifier.certificate import mismatch
    from querytier.classifier.golden import replay_golden
    from querytier.classifier.runtime import Classifier

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
    certificate = manifest.certificate
    expires = certificate.details.get("expires")
    until = f", until {expires}" if certificate.status == "granted" and expires else ""
    wrong = mismatch(folder, manifest)
    say(f"certificate {certificate.status}{until}{f'; {wrong}' if wrong else ''}")
