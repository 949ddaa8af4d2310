"""`manifest.json`: the contract between training and serving."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from querytier.classifier.threshold import Tier
from querytier.errors import ArtifactError

__all__ = [
    "FORMAT_VERSION",
    "Certificate",
    "Manifest",
    "Precision",
    "TextView",
    "Tolerance",
    "dump_manifest",
    "load_manifest",
]

FORMAT_VERSION = 2

Precision = Literal["fp32", "int8", "int8-weights"]


@dataclass(frozen=True, slots=True)
class TextView:
    """The text view that the classifier was trained on: version, and hash of its outputs."""

    version: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """The promise about the threshold, or the reason why there is none.

    Attributes
    ----------
    status : {"granted", "refused"}
    reason : str
    details : mapping
        Risk, alpha, delta, number of rows, bound and coverage; `hashes` of everything that it
        depends on; `date` and `expires`, days in UTC.
    """

    status: Literal["granted", "refused"]
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two computations of the same scores may differ.

    Attributes
    ----------
    difference : float
        The largest change of a score by rounding.
    exceptions : float
        Share of the texts, in [0, 1], that may differ by more; rounded up to whole texts. If a
        feature is exactly on a tree's split, rounding becomes a step; kernels for int8 differ
        between processors.
    largest : float
        The limit for these exceptions.
    """

    difference: float
    exceptions: float
    largest: float

    def allows(self, differences: Sequence[float]) -> bool:
        """Return whether differences are within the tolerance; NaN never is.

        Examples
        --------
        >>> steps = Tolerance(1e-5, 0.5, 0.01)
        >>> steps.allows([0, 0.009]), steps.allows([0, 0.02]), steps.allows([0.009, 0.009])
        (True, False, False)
        """
        beyond = [one for one in differences if not one <= self.difference]
        few = len(beyond) <= math.ceil(self.exceptions * len(differences))
        return few and all(one <= self.largest for one in beyond)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact contains and promises.

    Attributes
    ----------
    model_version : str
        The first twelve digits of the graph's sha256, without its metadata.
    input : {"token_ids", "text"}
        Name of the graph's input; a graph that reads text needs no separate tokenizer.
    precision : {"fp32", "int8", "int8-weights"}
        The encoder's: 32-bit floats, 8-bit integers, or floats times 8-bit weights.
    tolerance : Tolerance
        How far another machine's scores of the golden queries may differ from those in the file.
    max_tokens : int
        Largest number of token ids of one query; if there are more, the first and last ones are
        kept.
    decision_score : {"p_frontier", "gain"}
        The output that is compared with the threshold.
    threshold : float
        A query goes to the frontier tier if its decision score is at least this.
    fallback_tier : {"frontier", "cheap"}
        The tier of a query that the classifier cannot decide.
    label_rule, encoder, metrics, parity, quantisation, data, code : dict
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
    input: Literal["token_ids", "text"]
    precision: Precision
    tolerance: Tolerance
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
    quantisation: Mapping[str, Any]
    data: Mapping[str, Any]
    code: Mapping[str, Any]
    files: Mapping[str, str]


def dump_manifest(manifest: Manifest) -> str:
    """Return the manifest as JSON text that carries its own sha256."""
    content = {"format_version": FORMAT_VERSION, **asdict(manifest)}
    return _json({**content, "sha256": _sha256(content)})


def load_manifest(text: str) -> Manifest:
    """Read the text of a manifest of this format version or of an older one.

    Raises
    ------
    ArtifactError
        If it is not a manifest, was written in a later format version, or was changed by hand.
    """
    content = _parsed(text)
    version = content.pop("format_version", None)
    if version not in _READERS:
        raise ArtifactError(
            f"manifest.json has format_version {version!r}, this querytier reads "
            f"{', '.join(map(str, _READERS))}; export the artifact again, or install the querytier "
            "that wrote it"
        )
    expected = content.pop("sha256", None)
    signed = {"format_version": version, **content}
    # Comparing the text as well catches duplicate keys and white space, which parsing drops.
    if expected != _sha256(signed) or text != _json({**signed, "sha256": expected}):
        raise ArtifactError(
            "manifest.json does not match its own sha256: it was changed after the export; "
            "export the artifact again, or copy it again from its source"
        )
    return _manifest(_READERS[version](content))


def _from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content as format 2 would have it: in format 1 all encoders were fp32."""
    # The loosest tolerance that an fp32 graph had then: the one with trees.
    tolerance = {"difference": 1e-5, "exceptions": 0.01, "largest": 0.01}
    return {**content, "precision": "fp32", "tolerance": tolerance, "quantisation": {}}


_READERS: Mapping[object, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _from_format_1,
    2: dict,
}
# Code branches on these values, so a wrong one must not load; the other fields are for people.
_ALLOWED = {
    "input": {"token_ids", "text"},
    "decision_score": {"p_frontier", "gain"},
    "fallback_tier": {"cheap", "frontier"},
}


def _manifest(content: dict[str, Any]) -> Manifest:
    wrong = set(content) ^ {field.name for field in fields(Manifest)}
    if wrong:
        raise ArtifactError(
            f"manifest.json has missing or unknown fields: {', '.join(sorted(wrong))}"
        )
    for name, allowed in _ALLOWED.items():
        if content[name] not in allowed:
            raise ArtifactError(
                f"manifest.json has {name} {content[name]!r}, not one of {sorted(allowed)}; "
                "export the artifact again"
            )
    try:
        checked = {
            "text_view": TextView(**content["text_view"]),
            "certificate": Certificate(**content["certificate"]),
            "tolerance": Tolerance(**{k: float(v) for k, v in content["tolerance"].items()}),
            "threshold": float(content["threshold"]),
            "max_tokens": int(content["max_tokens"]),
            "files": {str(name): str(digest) for name, digest in content["files"].items()},
        }
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"manifest.json has a value of the wrong type ({error}); export the artifact again"
        ) from error
    return Manifest(**{**content, **checked})


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
