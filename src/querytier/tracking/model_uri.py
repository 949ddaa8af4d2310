"""An artifact by the name of its registered version: `models:/querytier@champion`.

::

    CACHE/artifacts/7f3a...-91c0.../    the files of a version, by model version and manifest

The manifest's sha256 is a tag of the version, and the manifest has those of all other files: what
is in the cache is the version's, or it is fetched again.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from querytier.classifier.artifact import MANIFEST, artifact_files, file_sha256, verified_manifest
from querytier.errors import ArtifactError, UsageError
from querytier.files import default_cache_folder
from querytier.tracking.registry import REGISTERED_NAME, RegisteredVersion, Registry
from querytier.tracking.store import open_store

__all__ = ["fetch_artifact", "is_model_uri", "registered_at"]

_SCHEME = "models:/"
_MODEL_URI = re.compile(
    rf"models:/{REGISTERED_NAME}(?:@(?P<alias>[A-Za-z][\w.-]*)|/(?P<number>[0-9]+))"
)


def is_model_uri(name: Path | str) -> bool:
    """Tell whether a name is that of a registered version, and not of a folder.

    Examples
    --------
    >>> is_model_uri("models:/querytier@champion"), is_model_uri("runs/first/model")
    (True, False)
    """
    return str(name).startswith(_SCHEME)


def registered_at(uri: Path | str, project: Path = Path()) -> str:
    """Return what a registered version is now, without fetching it: another word, another artifact.

    Raises
    ------
    UsageError
        If the name is none, or nothing has it.
    StoreError
        If the registry cannot be asked.
    """
    name = _parsed(uri)
    with open_store(project) as registry:
        found = registry.named(name)
        return f"{found.number} {_key(found)}"


def fetch_artifact(uri: Path | str, project: Path = Path()) -> Path:
    """Return the folder of a registered version's artifact, fetched where the cache lacks it.

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
        If the name is none, or nothing has it.
    StoreError
        If the registry cannot be asked, or its files cannot be had.
    ArtifactError
        If the registered version is no whole artifact.
    """
    name = _parsed(uri)
    with open_store(project) as registry:
        version = registry.named(name)
        place = _Place.of(version)
        if not place.holds_it():
            _fetch(registry, version, place)
        return place.folder


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a version lies in the cache, and how its manifest is known."""

    folder: Path
    manifest_sha256: str

    @classmethod
    def of(cls, version: RegisteredVersion) -> "_Place":
        folder = default_cache_folder() / "artifacts" / _key(version)
        return cls(folder, version.tags["manifest_sha256"])

    def holds_it(self) -> bool:
        try:
            self.check(self.folder)
        except (ArtifactError, OSError):
            return False
        return True

    def take(self, new: Path, old: Path) -> None:
        """Move a folder here, unless another process was quicker; what was damaged goes away."""
        if not self.holds_it():
            with suppress(FileNotFoundError):
                self.folder.rename(old)
        try:
            new.rename(self.folder)
        except OSError:
            if not self.holds_it():
                raise

    def check(self, folder: Path) -> None:
        verified_manifest(folder)
        found = file_sha256(folder / MANIFEST)
        if found != self.manifest_sha256:
            raise ArtifactError(
                f"{folder / MANIFEST} has sha256 {found[:12]}..., the registered version "
                f"{self.manifest_sha256[:12]}...: it was changed; register the artifact again "
                "(querytier evaluate)"
            )


def _fetch(registry: Registry, version: RegisteredVersion, place: _Place) -> None:
    folder = place.folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{place.folder.name}-", dir=folder) as scratch:
        fetched, new = Path(scratch, "fetched"), Path(scratch, "new")
        for made in (fetched, new):
            made.mkdir()
        found = registry.fetch(version.number, fetched)
        try:
            # Beside the artifact lie files of MLflow's own.
            for name in (MANIFEST, *artifact_files(verified_manifest(found).input)):
                (found / name).replace(new / name)
            place.check(new)
        except ArtifactError as error:
            raise ArtifactError(
                f"registered version {version.number} of {REGISTERED_NAME}, at "
                f"{registry.location(version.number)}, is no artifact: {error}"
            ) from error
        place.take(new, Path(scratch, "old"))


def _key(version: RegisteredVersion) -> str:
    manifest = version.tags.get("manifest_sha256", "")
    if not re.fullmatch("[0-9a-f]{64}", manifest) or not re.fullmatch(
        "[0-9a-f]{12}", version.model_version
    ):
        raise UsageError(
            f"registered version {version.number} of {REGISTERED_NAME} has no whole artifact: it "
            "was registered by an earlier querytier or by other means; run `querytier evaluate` on "
            "its folder to register it again"
        )
    return f"{version.model_version}-{manifest[:12]}"


def _parsed(uri: Path | str) -> str:
    found = _MODEL_URI.fullmatch(str(uri))
    if found is None:
        raise UsageError(
            f"{uri} names no registered version; say {_SCHEME}{REGISTERED_NAME}@champion, or "
            f"{_SCHEME}{REGISTERED_NAME}/3"
        )
    return found["alias"] or found["number"]
