"""Registered versions of the classifier: which one is champion, and what the gate found.

A champion is the version with the alias `champion`. Moving an alias is one write in MLflow, so a
service that follows `models:/querytier@champion` sees the old version or the new one, never
neither. The explanation of a move (gate result, previous champion, time of a rollback) is written
to tags first: if the process dies in between, the alias still names the old champion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from querytier.errors import UsageError

__all__ = ["REGISTERED_NAME", "RegisteredVersion", "Registry"]

REGISTERED_NAME = "querytier"


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version of the registered model.

    Attributes
    ----------
    number : str
        The registry's own number, starting at "1".
    model_version : str
        Model version of the artifact; empty if the version was not registered by querytier.
    run_id : str
    tags : mapping of str to str
    aliases : tuple of str
    created : float
        Seconds since 1970.
    """

    number: str
    model_version: str
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    created: float = 0.0


@dataclass(frozen=True)
class Registry:
    """The versions registered as `querytier`.

    Parameters
    ----------
    client : mlflow.MlflowClient
    download : callable
        Copies the files at a location of the store below a folder, and returns their path; see
        `querytier.tracking.store.downloader`.
    """

    client: Any
    download: Callable[[str, Path], Path]

    def champion(self) -> RegisteredVersion | None:
        """Return the version that has the alias `champion`; None if there is none."""
        return next((one for one in self.versions() if "champion" in one.aliases), None)

    def champion_other_than(self, model_version: str) -> RegisteredVersion | None:
        """Return the champion; None if there is none, or if it is this artifact."""
        champion = self.champion()
        same = champion is not None and champion.model_version == model_version
        return None if same else champion

    def find(self, name: str) -> RegisteredVersion:
        """Return a version by its number or by an alias.

        Raises
        ------
        UsageError
            If there is no such version.
        """
        versions = self.versions()
        for version in versions:
            if name == version.number or name in version.aliases:
                return version
        numbers = ", ".join(one.number for one in reversed(versions)) or "none"
        aliases = ", ".join(
            sorted(f"@{name} is {one.number}" for one in versions for name in one.aliases)
        )
        raise UsageError(
            f"{REGISTERED_NAME} has no registered version {name!r}; there are {numbers}"
            f"{f' ({aliases})' if aliases else ''}: `querytier evaluate` registers a version, "
            "`querytier gate` makes it champion"
        )

    def versions(self, model_version: str | None = None) -> list[RegisteredVersion]:
        """Return all versions, or those of one artifact, newest first."""
        of = "" if model_version is None else f" and tag.model_version = '{model_version}'"
        found = self.client.search_model_versions(f"name = '{REGISTERED_NAME}'{of}")
        # MLflow returns versions without their aliases, and raises an error for an alias that does
        # not exist; the registered model has all aliases.
        models = self.client.search_registered_models(f"name = '{REGISTERED_NAME}'")
        aliases = {alias: str(number) for one in models for alias, number in one.aliases.items()}
        versions = [_registered_version(version, aliases) for version in found]
        # Numbers are texts here, and "10" would sort before "9".
        return sorted(versions, key=lambda version: -int(version.number))

    def version_of(self, model_version: str) -> RegisteredVersion | None:
        """Return the newest version of an artifact; None if it is not registered."""
        return next(iter(self.versions(model_version)), None)

    def was_rolled_back(self, model_version: str) -> bool:
        """Return whether an artifact was champion and was rolled back."""
        return any("rolled_back" in version.tags for version in self.versions(model_version))

    def location(self, number: str) -> str:
        """Return the location of a version's files in the store."""
        source = str(self.client.get_model_version_download_uri(REGISTERED_NAME, number))
        # MLflow 3 names a logged model here; a file can be fetched only from its real location.
        if source.startswith("models:/m-"):
            model = self.client.get_logged_model(source.removeprefix("models:/"))
            return str(model.artifact_location)
        return source

    def fetch(self, number: str, target: Path, name: str | None = None) -> Path:
        """Copy all files of a version, or the named one, below a folder; return their path."""
        location = self.location(number)
        return self.download(location if name is None else f"{location}/{name}", target)

    def add_challenger(self, number: str, tags: Mapping[str, str]) -> None:
        """Tag a new version and give it the alias `challenger`."""
        self._tag(number, tags)
        self.client.set_registered_model_alias(REGISTERED_NAME, "challenger", number)

    def record_gate(self, number: str, *, passed: bool, reason: str, promote: bool = True) -> None:
        """Write the gate's result to a version's tags; make it champion if it passed."""
        self._tag(number, {"gate": "passed" if passed else "failed", "gate_reason": reason})
        if passed and promote:
            self._promote(number)

    def previous_champion(self, champion: RegisteredVersion) -> RegisteredVersion | None:
        """Return the last champion before this one that was not rolled back; None without one."""
        versions = {version.number: version for version in self.versions()}
        seen, number = {champion.number}, champion.tags.get("champion_before")
        # Tags are free text that anybody can edit, so following them may lead in a circle.
        while number in versions and number not in seen:
            if "rolled_back" not in versions[number].tags:
                return versions[number]
            seen.add(number)
            number = versions[number].tags.get("champion_before")
        return None

    def roll_back(self, champion: RegisteredVersion, to: RegisteredVersion) -> None:
        """Make an earlier version champion, and mark the current one as rolled back.

        The gate never promotes a marked artifact again: the same test rows would let it pass once
        more. Rolling back *to* a marked artifact is a person's decision and clears its mark.
        """
        for version in self.versions(to.model_version):
            if "rolled_back" in version.tags:
                self.client.delete_model_version_tag(REGISTERED_NAME, version.number, "rolled_back")
        self._tag(champion.number, {"rolled_back": _now()})
        self.client.set_registered_model_alias(REGISTERED_NAME, "champion", to.number)

    def _promote(self, number: str) -> None:
        before, tags = self.champion(), {"promoted_at": _now()}
        if before is not None and before.number != number:
            # If the same artifact is registered again, it inherits its predecessor; otherwise a
            # rollback would lead from an artifact to itself.
            same = before.model_version == self.find(number).model_version
            previous = before.tags.get("champion_before") if same else before.number
            tags |= {"champion_before": previous} if previous else {}
        self._tag(number, tags)
        self.client.set_registered_model_alias(REGISTERED_NAME, "champion", number)

    def _tag(self, number: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(REGISTERED_NAME, number, key, value)


def _registered_version(found: Any, aliases: Mapping[str, str]) -> RegisteredVersion:
    number = str(found.version)
    return RegisteredVersion(
        number,
        found.tags.get("model_version", ""),
        found.run_id or "",
        dict(found.tags),
        tuple(sorted(alias for alias, at in aliases.items() if at == number)),
        found.creation_timestamp / 1000,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
