"""Load an artifact by the name of its registered version: `models:/querytier@champion`.

::

    CACHE/artifacts/7f3a...-91c0.../    the files of a version, by model version and manifest

The manifest's sha256 is a tag of the version, and the manifest contains the sha256 of every other
file. So one tag proves the whole folder, wherever its bytes come from: a cache entry is used only
if every hash matches, and a changed or half-fetched one is fetched again.
"""

import re
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from querytier.classifier.artifact import MANIFEST, artifact_files, file_sha256, verified_manifest
from querytier.errors import ArtifactError, UsageError
from querytier.files import default_cache_folder
from querytier.tracking.registry import REGISTERED_NAME, RegisteredVersion, Registry
from querytier.tracking.store import open_registry

__all__ = ["fetch_artifact", "is_model_uri", "registered_state"]

_SCHEME = "models:/"
_MODEL_URI = re.compile(
    rf"models:/{REGISTERED_NAME}(?:@(?P<alias>[A-Za-z][\w.-]*)|/(?P<number>[0-9]+))"
)


def is_model_uri(name: Path | str) -> bool:
    """Return whether a name refers to a registered version, not to a folder.

    Examples
    --------
    >>> is_model_uri("models:/querytier@champion"), is_model_uri("runs/first/model")
    (True, False)
    """
    return str(name).startswith(_SCHEME)


def registered_state(uri: Path | str, project: Path = Path()) -> str:
    """Return a text that changes when the name refers to another artifact; fetch no files.

    Raises
    ------
    UsageError
        If the name is malformed, or no version has it.
    StoreError
        If the registry cannot be reached.
    """
    name = _alias_or_number(uri)
    with open_registry(project) as registry:
        found = registry.find(name)
        return f"{found.number} {_cache_key(found)}"


def fetch_artifact(uri: Path | str, project: Path = Path()) -> Path:
    """Return the folder of a registered version's artifact, fetched if the cache lacks it.

    Parameters
    ----------
    uri : Path or str
        `models:/querytier@ALIAS` or `models:/querytier/NUMBER`.
    project : Path
        The folder of the project's `mlflow.db`, unless `MLFLOW_TRACKING_URI` is set.

    Returns
    -------
    Path
        All files of the artifact, each as it was exported.

    Raises
    ------
    UsageError
        If the name is malformed, or no version has it.
    StoreError
        If the registry cannot be reached, or its files cannot be fetched.
    ArtifactError
        If the registered version is not a complete artifact.
    """
    name = _alias_or_number(uri)
    with open_registry(project) as registry:
        version = registry.find(name)
        entry = default_cache_folder() / "artifacts" / _cache_key(version)
        if not _is_complete(entry, version):
            _fetch(registry, version, entry)
        return entry


def _check(folder: Path, version: RegisteredVersion) -> None:
    """Raise ArtifactError if a folder does not contain the version's artifact, byte for byte."""
    verified_manifest(folder)
    found, wanted = file_sha256(folder / MANIFEST), version.tags["manifest_sha256"]
    if found != wanted:
        raise ArtifactError(
            f"{folder / MANIFEST} has sha256 {found[:12]}..., but the registered version has "
            f"{wanted[:12]}...: it was changed; register the artifact again (querytier evaluate)"
        )


def _is_complete(entry: Path, version: RegisteredVersion) -> bool:
    try:
        _check(entry, version)
    except (ArtifactError, OSError):
        return False
    return True


def _fetch(registry: Registry, version: RegisteredVersion, entry: Path) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{entry.name}-", dir=entry.parent) as scratch:
        fetched, new = Path(scratch, "fetched"), Path(scratch, "new")
        fetched.mkdir()
        new.mkdir()
        found = registry.fetch(version.number, fetched)
        try:
            # Only the artifact's own files: MLflow adds MLmodel, requirements.txt and others.
            for name in (MANIFEST, *artifact_files(verified_manifest(found).input)):
                (found / name).replace(new / name)
            _check(new, version)
        except ArtifactError as error:
            raise ArtifactError(
                f"registered version {version.number} of {REGISTERED_NAME}, at "
                f"{registry.location(version.number)}, is not an artifact: {error}"
            ) from error
        if not _is_complete(entry, version):
            with suppress(FileNotFoundError):
                entry.rename(Path(scratch, "damaged"))
        # A rename onto a folder that is not empty fails. Then another process was faster, and its
        # folder is just as good: all processes that fetch at the same time end up with the same
        # folder.
        try:
            new.rename(entry)
        except OSError:
            if not _is_complete(entry, version):
                raise


def _cache_key(version: RegisteredVersion) -> str:
    # The tags become a folder's name: anything but hexadecimal digits could point outside the
    # cache.
    manifest = version.tags.get("manifest_sha256", "")
    if not re.fullmatch("[0-9a-f]{64}", manifest) or not re.fullmatch(
        "[0-9a-f]{12}", version.model_version
    ):
        raise UsageError(
            f"registered version {version.number} of {REGISTERED_NAME} has no complete "
            "artifact: it was registered by an earlier querytier or by another tool; run "
            "`querytier evaluate` on its folder to register it again"
        )
    return f"{version.model_version}-{manifest[:12]}"


def _alias_or_number(uri: Path | str) -> str:
    found = _MODEL_URI.fullmatch(str(uri))
    if found is None:
        raise UsageError(
            f"{uri} is not the name of a registered version; use "
            f"{_SCHEME}{REGISTERED_NAME}@champion or {_SCHEME}{REGISTERED_NAME}/3"
        )
    return found["alias"] or found["number"]
