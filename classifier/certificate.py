"""Whether a certificate is about the artifact it came with, for which domains, and until when."""

import hashlib
import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from querytier.classifier.artifact import MODEL
from querytier.classifier.graph_file import graph_sha256, read_metadata
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
    """Return the hashes of everything that the certificate depends on.

    Parameters
    ----------
    folder : Path
        The artifact.
    manifest : Manifest

    Returns
    -------
    dict of str to str
        `data` is the fingerprint of the data; `label_rule`, `view` and `graph` (without its
        metadata) are sha256.
    """
    rule = json.dumps(manifest.label_rule, sort_keys=True)
    return {
        "data": str(manifest.data.get("fingerprint", "")),
        "label_rule": hashlib.sha256(rule.encode()).hexdigest(),
        "view": manifest.text_view.sha256,
        "graph": graph_sha256(folder / MODEL),
    }


def certificate_text(certificate: Certificate) -> str:
    """Return the certificate as JSON with sorted keys, as in the graph's metadata."""
    return json.dumps(asdict(certificate), sort_keys=True)


def mismatch(folder: Path, manifest: Manifest) -> str | None:
    """Return why a granted certificate is not about this artifact; None if it is.

    A refused certificate promises nothing; one from before hashes were recorded is accepted as is.

    Parameters
    ----------
    folder : Path
    manifest : Manifest
    """
    certificate = manifest.certificate
    expected = certificate.details.get("hashes")
    if certificate.status != "granted" or expected is None:
        return None
    actual = certified_hashes(folder, manifest)
    changed = [name for name, value in actual.items() if expected.get(name) != value]
    if certificate.details.get("threshold") != manifest.threshold:
        changed.append("threshold")
    # The graph may be served by another runtime, without the manifest: both carry the certificate,
    # and must carry the same one.
    if read_metadata(folder / MODEL).get(CERTIFICATE_KEY) != certificate_text(certificate):
        changed.append("certificate in the graph's metadata")
    return f"it was granted for another {', '.join(changed)}" if changed else None


def expiry(certificate: Certificate) -> float:
    """Return when a certificate expires, in seconds since 1970; infinity if it never does.

    A refused certificate promises nothing that could expire.

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
        # An unreadable date must not make a promise last for ever.
        return -math.inf


def covered_domains(certificate: Certificate) -> frozenset[str] | None:
    """Return the domains that a granted certificate covers; None if it covers all traffic."""
    slices = list(certificate.details.get("slices") or ())
    if certificate.status != "granted" or not slices:
        return None
    return frozenset(one["name"] for one in slices if one["status"] == "granted")
