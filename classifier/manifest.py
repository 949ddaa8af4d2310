"""`manifest.json`: the contract between what trains a classifier and what serves it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from querytier.classifier.threshold import Tier
from querytier.errors import ArtifactError

__all__ = [
    "FORMAT_VERSION",
    "Certificate",
    "Manifest",
    "TextView",
    "dump_manifest",
    "load_manifest",
]

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class TextView:
    """Which text view the classifier was trained on: its version, and the hash of its outputs."""

    version: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is promised about the threshold, or why nothing is.

    Attributes
    ----------
    status : {"granted", "refused"}
    reason : str
    """

    status: Literal["granted", "refused"]
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact holds and promises.

    Attributes
    ----------
    model_version : str
        The first twelve digits of the graph's sha256.
    input : {"token_ids"}
        Name of the graph's input.
    max_tokens : int
        Most token ids of one query; beyond, head and tail are kept.
    decision_score : {"p_frontier", "gain"}
        Which output is compared with the threshold.
    threshold : float
        Frontier where the decision score is at least this much.
    fallback_tier : {"frontier", "cheap"}
        The tier where the classifier cannot answer.
    label_rule, encoder, metrics, parity, data, code : dict
        Where the classifier comes from, for people and for lineage.
    text_view : TextView
    certificate : Certificate
    created : str
        UTC, ISO 8601.
    files : dict of str to str
        sha256 of every other file of the artifact.
    """

    model_version: str
    created: str
    input: Literal["token_ids"]
    max_tokens: int
    text_view: TextView
    decision_score: Literal["p_frontier", "gain"]
    threshold: float
    fallback_tier: Tier
    certificate: Certificate
    label_rule: Mapping[str, Any]
    encoder: Mapping[str, Any]
    metrics: Mapping[str, Any]
    parity: Mapping[str, Any]
    data: Mapping[str, Any]
    code: Mapping[str, Any]
    files: Mapping[str, str]


def dump_manifest(manifest: Manifest) -> str:
    """Return the manifest as JSON text that carries its own sha256."""
    content = {"format_version": FORMAT_VERSION, **asdict(manifest)}
    return _json({**content, "sha256": _sha256(content)})


def load_manifest(text: str) -> Manifest:
    """Read manifest text.

    Raises
    ------
    ArtifactError
        If it is not a manifest, was written in another format version, or was changed by hand.
    """
    content = _parsed(text)
    version = content.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"manifest.json has format_version {version!r}, this querytier reads {FORMAT_VERSION}; "
            "export the artifact again, or install the querytier that wrote it"
        )
    stated = content.pop("sha256", None)
    signed = {"format_version": version, **content}
    if stated != _sha256(signed) or text != _json({**signed, "sha256": stated}):
        raise ArtifactError(
            "manifest.json does not match its own sha256: it was changed after the export; "
            "export the artifact again, or copy it again from its source"
        )
    wrong = set(content) ^ {field.name for field in fields(Manifest)}
    if wrong:
        raise ArtifactError(f"manifest.json lacks, or has in excess: {', '.join(sorted(wrong))}")
    view, certificate = TextView(**content["text_view"]), Certificate(**content["certificate"])
    return Manifest(**{**content, "text_view": view, "certificate": certificate})


def _parsed(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"manifest.json is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ArtifactError("manifest.json is not a JSON object")
    return content


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_json(content).encode()).hexdigest()


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
