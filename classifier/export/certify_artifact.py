"""Write a certificate and its threshold into an artifact."""

import shutil
from dataclasses import replace
from pathlib import Path

from querytier.classifier.artifact import MODEL, artifact_files
from querytier.classifier.certificate import CERTIFICATE_KEY, certificate_text, certified_hashes
from querytier.classifier.export.sealing import seal
from querytier.classifier.graph_file import write_metadata
from querytier.classifier.manifest import Certificate, Manifest
from querytier.classifier.runtime import Classifier
from querytier.files import atomic_folder

__all__ = ["write_certificate"]


def write_certificate(
    folder: Path,
    certificate: Certificate,
    threshold: float | None = None,
    classifier: Classifier | None = None,
) -> Manifest:
    """Write a certificate into an artifact's manifest and graph; the computation does not change.

    The certificate is completed with the hashes of everything that it depends on and, if it is
    granted, with the threshold.

    Parameters
    ----------
    folder : Path
        An artifact. It is replaced in one step, or does not change.
    certificate : Certificate
    threshold : float, optional
        The threshold that was certified; by default that of the artifact.
    classifier : Classifier, optional
        The artifact, if it is loaded already: loading takes as long as writing.

    Raises
    ------
    ArtifactError
        If the folder is not an artifact, or was changed.
    """
    classifier = classifier or Classifier.load(folder)
    manifest = classifier.manifest
    threshold = manifest.threshold if threshold is None else threshold
    details = {**certificate.details, "hashes": certified_hashes(folder, manifest)}
    if certificate.status == "granted":
        details["threshold"] = threshold
    certificate = replace(certificate, details=details)
    manifest = replace(manifest, certificate=certificate, threshold=threshold)
    with atomic_folder(folder) as new:
        for name in artifact_files(manifest.input):
            shutil.copy2(folder / name, new / name)
        # Model registries copy the graph alone, so it carries its certificate. Metadata does not
        # change `graph_sha256`, which the certificate states.
        write_metadata(new / MODEL, CERTIFICATE_KEY, certificate_text(certificate))
        return seal(new, replace(classifier, manifest=manifest))
