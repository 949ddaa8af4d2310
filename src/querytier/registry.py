"""The registered versions of the classifier: which one is champion, and what the gate said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    """

    number: str
    model_version: str
    run_id: str


@dataclass(frozen=True)
class Registry:
    """What is registered as `querytier`.

    Parameters
    ----------
    client : mlflow.MlflowClient
        As `querytier.tracking`, which alone imports mlflow, gives it.
    """

    client: Any

    def champion(self) -> RegisteredVersion | None:
        """Return the version that has the alias `champion`; None where none has."""
        # Asked for an alias that nobody has, MLflow raises an error that only it can name.
        for model in self.client.search_registered_models(f"name = '{REGISTERED_NAME}'"):
            if "champion" in model.aliases:
                number = model.aliases["champion"]
                return _version(self.client.get_model_version(REGISTERED_NAME, number))
        return None

    def champion_besides(self, model_version: str) -> RegisteredVersion | None:
        """Return the champion; None, too, where it is this very model."""
        champion = self.champion()
        same = champion is not None and champion.model_version == model_version
        return None if same else champion

    def version_of(self, model_version: str) -> RegisteredVersion | None:
        """Return the newest version of an artifact; None where it is not registered."""
        found = self.client.search_model_versions(
            f"name = '{REGISTERED_NAME}' and tag.model_version = '{model_version}'"
        )
        newest = max(found, key=lambda version: int(version.version), default=None)
        return None if newest is None else _version(newest)

    def introduce(self, number: str, tags: Mapping[str, str]) -> None:
        """Tag a new version and call it challenger."""
        self._tag(number, tags)
        self.client.set_registered_model_alias(REGISTERED_NAME, "challenger", number)

    def judge(self, number: str, passed: bool, reason: str, *, promoted: bool) -> None:
        """Write the gate's verdict on a version, and make it champion where it is to be."""
        self._tag(number, {"gate": "passed" if passed else "failed", "gate_reason": reason})
        if promoted:
            self.client.set_registered_model_alias(REGISTERED_NAME, "champion", number)

    def _tag(self, number: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(REGISTERED_NAME, number, key, value)


def _version(found: Any) -> RegisteredVersion:
    model_version = found.tags.get("model_version", "")
    return RegisteredVersion(str(found.version), model_version, found.run_id or "")
