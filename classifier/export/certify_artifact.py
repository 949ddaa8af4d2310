"""An artifact with another threshold, and what is promised about it."""

import shutil
from dataclasses import replace
from pathlib import Path

from querytier.classifier.artifact import (
    CARD,
    GOLDEN,
    MANIFEST,
    MODEL,
    artifact_files,
    file_sha256,
)
from querytier.classifier.certificate import (
    CERTIFICATE_KEY,
    certificate_text,
    certified_hashes,
)
from querytier.classifier.export.model_card import model_card
from querytier.classifier.golden import write_golden
from querytier.classifier.graph_metadata import write_metadata
from querytier.classifier.manifest import Certificate, Manifest, dump_manifest
from querytier.classifier.runtime import Classifier
from querytier.files import atomic_folder

__all__ = ["write_certificate"]


def write_certificate(
    folder: Path,
    certificate: Certificate,
    threshold: float | None = None,
    classifier: Classifier | None = None,
) -> Manifest:
    """Write a certificate into manifest and graph of an artifact; what the graph computes stays.

    The certificate gets the hashes of what it depends on and, where it is granted, the threshold.

    Parameters
    ----------
    folder : Path
        An artifact; it is replaced in one step, or stays as it was.
    certificate : Certificate
    threshold : float, optional
        The one that the certificate speaks of. Without, the artifact's own stays.
    classifier : Classifier, optional
        The artifact as it is loaded already; loading takes as long as writing.

    Raises
    ------
    ArtifactError
        If the folder is no artifact, or was changed.
    """
    classifier = classifier or Classifier.load(folder)
    if threshold is None:
        threshold = classifier.manifest.threshold
    hashes = certified_hashes(folder, classifier.manifest)
    details = {**certificate.details, "hashes": hashes}
    if certificate.status == "granted":
        details["threshold"] = threshold
    certificate = replace(certificate, details=details)
    manifest = replace(classifier.manifest, certificate=certificate, threshold=threshold)
    with atomic_folder(folder) as new:
        for name in artifact_files(manifest.input):
            shutil.copy2(folder / name, new / name)
        write_metadata(new / MODEL, CERTIFICATE_KEY, certificate_text(certificate))
        write_golden(replace(classifier, manifest=manifest), new / GOLDEN)
        (new / CARD).write_text(model_card(manifest), "utf-8")
        files = {name: file_sha256(new / name) for name in artifact_files(manifest.input)}
        manifest = replace(manifest, files=files)
        (new / MANIFEST).write_text(dump_manifest(manifest), "utf-8")
        Classifier.load(new)
    return manifest
