"""The registered versions of the classifier: which one is champion, and what the gate said."""

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
        The registry's own count, from "1".
    model_version : str
        Of the artifact; empty where the version was registered by other means.
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
    """What is registered as `querytier`.

    Parameters
    ----------
    client : mlflow.MlflowClient
        As `querytier.tracking.store` gives it.
    download : callable
        Copies what lies at a location of the store below a folder; returns where to.
    """

    client: Any
    download: Callable[[str, Path], Path]

    def champion(self) -> RegisteredVersion | None:
        """Return the version that has the alias `champion`; None where none has."""
        number = self._aliases().get("champion")
        return None if number is None else self._version(number)

    def named(self, name: str) -> RegisteredVersion:
        """Return a version by its number or by an alias.

        Raises
        ------
        UsageError
            If there is none of that name.
        """
        aliases = self._aliases()
        known = {version.number for version in self.versions()}
        number = aliases.get(name, name)
        if number not in known:
            listed = ", ".join(f"@{alias} is {at}" for alias, at in sorted(aliases.items()))
            versions = ", ".join(sorted(known, key=int)) or "none"
            raise UsageError(
                f"{REGISTERED_NAME} has no registered version {name!r}; there are {versions}"
                f"{f' ({listed})' if listed else ''}: `querytier evaluate` registers one, "
                "`querytier gate` makes it champion"
            )
        return self._version(number)

    def versions(self, model_version: str | None = None) -> list[RegisteredVersion]:
        """Return all versions, or those of an artifact; the newest first."""
        aliases = self._aliases()
        of = "" if model_version is None else f" and tag.model_version = '{model_version}'"
        found = self.client.search_model_versions(f"name = '{REGISTERED_NAME}'{of}")
        # A search finds versions without their aliases.
        versions = [self._described(version, aliases) for version in found]
        return sorted(versions, key=lambda version: -int(version.number))

    def location(self, number: str) -> str:
        """Return where the files of a version lie."""
        source = str(self.client.get_model_version_download_uri(REGISTERED_NAME, number))
        if source.startswith("models:/m-"):
            model = self.client.get_logged_model(source.removeprefix("models:/"))
            return str(model.artifact_location)
        return source

    def fetch(self, number: str, target: Path) -> Path:
        """Copy the files of a version below a folder; return where they are."""
        return self.download(self.location(number), target)

    def fetch_file(self, number: str, name: str, target: Path) -> Path:
        """Copy one file of a version below a folder; return where it is."""
        return self.download(f"{self.location(number)}/{name}", target)

    def champion_besides(self, model_version: str) -> RegisteredVersion | None:
        """Return the champion; None, too, where it is this very model."""
        champion = self.champion()
        same = champion is not None and champion.model_version == model_version
        return None if same else champion

    def version_of(self, model_version: str) -> RegisteredVersion | None:
        """Return the newest version of an artifact; None where it is not registered."""
        return next(iter(self.versions(model_version)), None)

    def was_rolled_back(self, model_version: str) -> bool:
        """Tell whether an artifact was champion, and was taken back."""
        return any("rolled_back" in version.tags for version in self.versions(model_version))

    def introduce(self, number: str, tags: Mapping[str, str]) -> None:
        """Tag a new version and call it challenger."""
        self._tag(number, tags)
        self.client.set_registered_model_alias(REGISTERED_NAME, "challenger", number)

    def judge(self, number: str, passed: bool, reason: str, *, promoted: bool) -> None:
        """Write the gate's verdict on a version, and make it champion where it is to be."""
        self._tag(number, {"gate": "passed" if passed else "failed", "gate_reason": reason})
        if promoted:
            self._promote(number)

    def before(self, champion: RegisteredVersion) -> RegisteredVersion | None:
        """Return who was champion before; None where nobody is known, or all were taken back."""
        seen = {champion.number}
        versions = {version.number: version for version in self.versions()}
        number = champion.tags.get("champion_before")
        while number in versions and number not in seen:
            if "rolled_back" not in versions[number].tags:
                return self._version(number)
            seen.add(number)
            number = versions[number].tags.get("champion_before")
        return None

    def roll_back(self, champion: RegisteredVersion, to: RegisteredVersion) -> None:
        """Make an earlier version champion; the one that was is not promoted again by itself."""
        for version in self.versions(to.model_version):
            if "rolled_back" in version.tags:
                self.client.delete_model_version_tag(REGISTERED_NAME, version.number, "rolled_back")
        self._tag(champion.number, {"rolled_back": _now()})
        self.client.set_registered_model_alias(REGISTERED_NAME, "champion", to.number)

    def _promote(self, number: str) -> None:
        before = self.champion()
        tags = {"promoted_at": _now()}
        if before is not None and before.number != number:
            same = before.model_version == self._version(number).model_version
            tags["champion_before"] = (
                before.tags.get("champion_before", "") if same else before.number
            )
        self._tag(number, {name: value for name, value in tags.items() if value})
        self.client.set_registered_model_alias(REGISTERED_NAME, "champion", number)

    def _aliases(self) -> dict[str, str]:
        # Asked for an alias that nobody has, MLflow raises an error that only it can name.
        for model in self.client.search_registered_models(f"name = '{REGISTERED_NAME}'"):
            return {alias: str(number) for alias, number in model.aliases.items()}
        return {}

    def _version(self, number: str) -> RegisteredVersion:
        found = self.client.get_model_version(REGISTERED_NAME, number)
        return self._described(found, self._aliases())

    def _described(self, found: Any, aliases: Mapping[str, str]) -> RegisteredVersion:
        number = str(found.version)
        return RegisteredVersion(
            number,
            found.tags.get("model_version", ""),
            found.run_id or "",
            dict(found.tags),
            tuple(sorted(alias for alias, at in aliases.items() if at == number)),
            found.creation_timestamp / 1000,
        )

    def _tag(self, number: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(REGISTERED_NAME, number, key, value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
