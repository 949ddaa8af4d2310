"""The pair of models between which a router chooses, and the many names of one model."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from querytier.errors import UsageError

__all__ = ["ModelPair", "closest_model"]

# "openai/", "azure/eu/" and "us.anthropic." are prefixes; the dots of "gpt-4.1" are not.
_PROVIDER = re.compile(r"^(?:.*/)?(?:(?:[a-z]+\.)+(?=[a-z]))?")
# Dates, "latest", "-0613", ":v2" and the like; "-mini" and "-turbo" name another model.
_VERSION = re.compile(
    r"(?:[-@:](?:latest|\d{4}-\d\d-\d\d|\d\d-\d{4}|\d{8}|\d{6}|\d{3,4}|v\d+(?:[.:]\d+)*))+"
)


@dataclass(frozen=True, slots=True)
class ModelPair:
    """The names of the two models between which the router chooses.

    Raises
    ------
    UsageError
        If a name is empty, or both names are the same.
    """

    cheap: str
    frontier: str

    def __post_init__(self) -> None:
        if not self.cheap or not self.frontier or self.cheap == self.frontier:
            raise UsageError(
                f"the pair of models is {self.cheap!r} and {self.frontier!r}; "
                "name two different models, the cheap one first"
            )

    def tier_of(self, model: str) -> str | None:
        """Return "cheap" or "frontier"; None if the model is neither, or could be both.

        Examples
        --------
        >>> pair = ModelPair("gpt-4o-mini", "gpt-4o")
        >>> pair.tier_of("openai/gpt-4o-2024-08-06"), pair.tier_of("gpt-4-turbo")
        ('frontier', None)
        """
        name = closest_model(model, (self.cheap, self.frontier))
        return {self.cheap: "cheap", self.frontier: "frontier"}.get(name or "")


def closest_model(model: str, names: Iterable[str]) -> str | None:
    """Return the name that is closest to a model; None if none is close, or two are equally close.

    An equal name is closest, then one that differs only in case or by the prefix of a provider,
    then one that differs by a version at the end. Two different prefixes, or two different
    versions, mean two models.

    Examples
    --------
    >>> closest_model("gpt-4-0613", ["gpt-4", "gpt-4-0314"])
    'gpt-4'
    >>> closest_model("gpt-4", ["gpt-4-0613", "gpt-4-0314"])
    """
    ranked = sorted(((_closeness(model, name), name) for name in names), reverse=True)
    if not ranked or not ranked[0][0] or (len(ranked) > 1 and ranked[0][0] == ranked[1][0]):
        return None
    return ranked[0][1]


def _closeness(model: str, name: str) -> int:
    if model == name:
        return 3
    prefixes, bare = zip(*map(_without_provider, (model, name)), strict=True)
    if all(prefixes) and prefixes[0] != prefixes[1]:
        return 0
    shorter, longer = sorted(bare, key=len)
    if shorter == longer:
        return 2
    return int(longer.startswith(shorter) and bool(_VERSION.fullmatch(longer[len(shorter) :])))


def _without_provider(model: str) -> tuple[str, str]:
    name = model.strip().lower()
    prefix = _PROVIDER.match(name)
    length = prefix.end() if prefix else 0
    return name[:length], name[length:]
