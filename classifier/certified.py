"""An artifact with another threshold, and what is promised about it."""

import shutil
from dataclasses import replace
from pathlib import Path

from querytier.classifier.artifact import CARD, GOLDEN, MANIFEST, artifact_files, file_sha256
from querytier.classifier.card import model_card
from querytier.classifier.golden import write_golden
from querytier.classifier.manifest import Certificate, Manifest, dump_manifest
from querytier.classifier.runtime import Classifier
from querytier.data.atomic import atomic_folder

__all__ = ["write_certificate"]


def write_certificate(
    folder: Path, certificate: Certificate, threshold: float | None = None
) -> Manifest:
    """Write a certificate into an artifact; graph and tokenizer stay as they are.

    Parameters
    ----------
    folder : Path
        An artifact; it is replaced in one step, or stays as it was.
    certificate : Certificate
    threshold : float, optional
        The one that the certificate speaks of. Without, the artifact's own stays.

    Raises
    ------
    ArtifactError
        If the folder is no artifact, or was changed.
    """
    classifier = Classifier.load(folder)
    manifest = replace(
        classifier.manifest,
        certificate=certificate,
        threshold=classifier.manifest.threshold if threshold is None else threshold,
    )
    with atomic_folder(folder) as new:
        for name in artifact_files(manifest.input):
            shutil.copy2(folder / name, new / name)
        write_golden(replace(classifier, manifest=manifest), new / GOLDEN)
        (new / CARD).write_text(model_card(manifest), "utf-8")
        files = {name: file_sha256(new / name) for name in artifact_files(manifest.input)}
        manifest = replace(manifest, files=files)
        (new / MANIFEST).write_text(dump_manifest(manifest), "utf-8")
        Classifier.load(new)
    return manifest
