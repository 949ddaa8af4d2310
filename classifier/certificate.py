"""Whether a certificate speaks of the artifact that it came with, and until when."""

import hashlib
import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from querytier.classifier.artifact import MODEL
from querytier.classifier.graph_metadata import graph_sha256, read_metadata
from querytier.classifier.manifest import Certificate, Manifest

__all__ = [
    "CERTIFICATE_KEY",
    "certificate_text",
    "certified_hashes",
    "covered_domains",
    "expiry",
    "mismatch",
]

CERTIFICATE_KEY = "querytier.certificate"


def certified_hashes(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Return the hashes of all that a promise depends on.

    Parameters
    ----------
    folder : Path
        Of the artifact.
    manifest : Manifest

    Returns
    -------
    dict of str to str
        `data`, the fingerprint; `label_rule`, `view` and `graph` (without its metadata), sha256.
    """
    rule = json.dumps(manifest.label_rule, sort_keys=True)
    return {
        "data": str(manifest.data.get("fingerprint", "")),
        "label_rule": hashlib.sha256(rule.encode()).hexdigest(),
        "view": manifest.text_view.sha256,
        "graph": graph_sha256(folder / MODEL),
    }


def certificate_text(certificate: Certificate) -> str:
    """Return the certificate as the graph's metadata has it: JSON, keys in order."""
    return json.dumps(asdict(certificate), sort_keys=True)


def mismatch(folder: Path, manifest: Manifest) -> str | None:
    """Return why a granted certificate does not speak of its artifact; None where it does.

    A refused one promises nothing, and one of before hashes were written is taken at its word.

    Parameters
    ----------
    folder : Path
    manifest : Manifest
    """
    certificate = manifest.certificate
    stated = certificate.details.get("hashes")
    if certificate.status != "granted" or stated is None:
        return None
    found = certified_hashes(folder, manifest)
    other = [name for name, value in found.items() if stated.get(name) != value]
    if certificate.details.get("threshold") != manifest.threshold:
        other.append("threshold")
    if read_metadata(folder / MODEL).get(CERTIFICATE_KEY) != certificate_text(certificate):
        other.append("certificate in the graph's metadata")
    if not other:
        return None
    return f"it was granted for another {', '.join(other)}"


def expiry(certificate: Certificate) -> float:
    """Return when a certificate lapses, in seconds since 1970; infinity for one that never does.

    A refused one promises nothing that could lapse.

    Examples
    --------
    >>> expiry(Certificate("granted", "", {"expires": "1970-01-02"}))
    86400.0
    """
    expires = certificate.details.get("expires")
    if certificate.status != "granted" or expires is None:
        return math.inf
    try:
        return datetime.fromisoformat(str(expires)).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return -math.inf


def covered_domains(certificate: Certificate) -> frozenset[str] | None:
    """Return the domains that a granted certificate covers; None where it names none."""
    slices = list(certificate.details.get("slices") or ())
    if certificate.status != "granted" or not slices:
        return None
    return frozenset(one["name"] for one in slices if one["status"] == "granted")
