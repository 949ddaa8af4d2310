"""The verbs `querytier artifact ...`: what to do with an artifact that came from elsewhere."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querytier.cli.log_options import say

if TYPE_CHECKING:
    from querytier.classifier.manifest import Manifest

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
    say(_standing(folder, manifest))


def _standing(folder: Path, manifest: "Manifest") -> str:
    """Say whether the artifact's certificate stands, and until when."""
    from querytier.classifier.certificate import expiry, mismatch

    certificate = manifest.certificate
    if certificate.status != "granted":
        return f"certificate {certificate.status}: {certificate.reason}"
    wrong, until = mismatch(folder, manifest), expiry(certificate)
    if wrong is not None:
        return f"certificate granted, but {wrong}: the fallback tier answers"
    if until == math.inf:
        return "certificate granted, without an end"
    day = certificate.details["expires"]
    if time.time() >= until:
        return f"certificate granted, expired since {day}: the fallback tier answers"
    return f"certificate granted, valid until {day}"
