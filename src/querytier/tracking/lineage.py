"""Trace a served decision back to its artifact, run, code and data."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from querytier.classifier.artifact import MANIFEST, file_sha256
from querytier.classifier.manifest import Manifest, load_manifest
from querytier.data.formats.decision_log import judgement_of
from querytier.data.formats.reading import read_records
from querytier.data.values import BadRecordError
from querytier.errors import ArtifactError, UsageError
from querytier.tracking.registry import RegisteredVersion, Registry
from querytier.tracking.store import StoreError, open_registry

__all__ = ["DecisionLineage", "decision_lineage"]

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DecisionLineage:
    """A decision, its outcomes, and the model that made it.

    Attributes
    ----------
    decision : dict
        Its line in the log.
    outcomes : sequence of dict
        The outcomes posted for its answer, in the order of the log.
    registered : dict or None
        The version that decided, with its run, code, data, files and certificate.
    missing : str or None
        The reason if `registered` is None.
    """

    decision: Fields
    outcomes: list[Fields]
    registered: Fields | None = None
    missing: str | None = None

    def to_dict(self) -> Fields:
        """Return the lineage for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the lineage as an indented tree."""
        parts = {"decision": self.decision}
        parts |= {f"outcome {place}": one for place, one in enumerate(self.outcomes, 1)}
        parts |= {"registered": self.registered} if self.registered else {}
        lines = [line for name, fields in parts.items() for line in (name, *_branches(fields))]
        lines += [] if self.outcomes else ["outcome: none in the log"]
        return lines + ([f"missing: {self.missing}"] if self.missing else [])


def decision_lineage(decision_id: str, log: Path, project: Path) -> DecisionLineage:
    """Trace a decision of a decision log.

    Parameters
    ----------
    decision_id : str
    log : Path
        The folder given to `querytier serve --log`.
    project : Path
        The folder of the project's `mlflow.db`, unless `MLFLOW_TRACKING_URI` is set.

    Raises
    ------
    UsageError
        If the folder has no decisions, or none with this id.
    """
    files = sorted(log.glob("decisions*.jsonl"))
    if not files:
        raise UsageError(
            f"{log} has no decisions*.jsonl; give the folder of `querytier serve --log`"
        )
    decision = next(_with_id(files, decision_id), None)
    if decision is None:
        raise UsageError(
            f"no decision {decision_id!r} in the {len(files)} files of {log}; use the id that "
            "/v1/decide returned, and check that closed files were not moved elsewhere"
        )
    outcomes = [
        one for one in _with_id([log / "outcomes.jsonl"], decision_id) if _has_judgement(one)
    ]
    missing = (
        f"model {decision['policy']} is not in the registry: it was served from a folder, or it is "
        "registered in another store"
    )
    try:
        with open_registry(project) as registry:
            registered = _registered(registry, decision)
    except StoreError as error:
        registered, missing = None, str(error)
    return DecisionLineage(decision, outcomes, registered, None if registered else missing)


def _with_id(files: Iterable[Path], decision_id: str) -> Iterator[Fields]:
    for file in files:
        for record in read_records(file) if file.is_file() else ():
            if record.fields is not None and record.fields.get("id") == decision_id:
                yield dict(record.fields)


def _has_judgement(outcome: Fields) -> bool:
    # Lines that cannot be read contain no judgement of the answer.
    try:
        return bool(judgement_of(outcome))
    except BadRecordError:
        return False


def _registered(registry: Registry, decision: Fields) -> Fields | None:
    versions = registry.versions(str(decision["policy"]))
    if not versions:
        return None
    decided = datetime.fromisoformat(str(decision["time"])).timestamp()
    # An artifact may be registered again with another certificate: the version that decided is the
    # newest one at that time. If clocks of two machines differ, there may be none; then it is the
    # oldest one.
    version = next((one for one in versions if one.created <= decided), versions[-1])
    return {
        "version": version.number,
        "aliases": list(version.aliases),
        "other_versions": [one.number for one in versions if one.number != version.number],
        "model_version": version.model_version,
        "run_id": version.run_id,
        "code_commit": version.tags.get("code_commit"),
        "data_fingerprint": version.tags.get("data_fingerprint"),
        "artifact": registry.location(version.number),
        "manifest_sha256": version.tags.get("manifest_sha256"),
        "certificate": _certificate(registry, version),
        "tags": dict(version.tags),
    }


def _certificate(registry: Registry, version: RegisteredVersion) -> Fields:
    """Return the certificate of the registered manifest, or of the tags if the manifest is gone."""
    try:
        found = _registered_manifest(registry, version).certificate
    except (StoreError, ArtifactError, UnicodeDecodeError) as error:
        prefix, tags = "certificate_", version.tags
        details = {
            name.removeprefix(prefix): tags[name] for name in tags if name.startswith(prefix)
        }
        where = f"the tags, as registered; {MANIFEST}: {error}"
        return {"status": tags.get("certificate"), **details, "read_from": where}
    where = f"{MANIFEST} of version {version.number}"
    return {"status": found.status, "reason": found.reason, **found.details, "read_from": where}


def _registered_manifest(registry: Registry, version: RegisteredVersion) -> Manifest:
    with TemporaryDirectory() as scratch:
        path = registry.fetch(version.number, Path(scratch), MANIFEST)
        if file_sha256(path) != version.tags.get("manifest_sha256"):
            raise ArtifactError(f"{MANIFEST} is not the one that was registered")
        return load_manifest(path.read_text("utf-8"))


def _branches(fields: Fields, indent: str = "  ") -> list[str]:
    lines = []
    for name, value in fields.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_branches(value, indent + "  ")]
        elif value not in (None, "", []):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{indent}{name:<18} {shown}")
    return lines
