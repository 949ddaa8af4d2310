"""The column map: where each field of an example stands in a user's log records."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from querytier.errors import UsageError

__all__ = ["FIELDS", "ColumnMap", "leaf_paths", "parse_paths"]

FIELDS = (
    "query",
    "id",
    "group",
    "domain",
    "language",
    "needs_frontier",
    "cheap_score",
    "frontier_score",
    "weight",
    "cheap_cost",
    "frontier_cost",
    "label_source",
    "time",
    "source",
    "cheap_grades",
    "frontier_grades",
    "winner",
    "tier",
    "outcome",
    "feedback",
    "cost",
    "propensity",
    "policy",
)

_MISSING = object()


@dataclass(frozen=True)
class ColumnMap:
    """For each field of an example, the dotted path at which log records hold it.

    Parameters
    ----------
    paths : mapping of str to str
        Keys are among `FIELDS`, `query` is among them.

    Raises
    ------
    UsageError
        If a key is not a field, or `query` is not mapped.

    Examples
    --------
    >>> columns = ColumnMap({"query": "prompt", "group": "meta.group"})
    >>> columns.values({"prompt": "Hi", "meta": {"group": "g1"}})
    {'query': 'Hi', 'group': 'g1'}
    """

    paths: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_fields(self.paths)
        if "query" not in self.paths:
            raise UsageError(
                "the column map names no query; add query=COLUMN, as in --map query=prompt"
            )

    @staticmethod
    def paths_of_same_names(record: Mapping[str, object]) -> dict[str, str]:
        """Map every field to the column of its own name, where the record has one."""
        return {name: name for name in FIELDS if name in record}

    def values(self, record: Mapping[str, object]) -> dict[str, object]:
        """Return the mapped fields that the record has, by field name; nulls are left out."""
        found = {name: _look_up(record, path) for name, path in self.paths.items()}
        return {name: value for name, value in found.items() if value not in (_MISSING, None)}

    def present(self, record: Mapping[str, object]) -> set[str]:
        """Return the fields whose column the record has, be its value null or not."""
        return {name for name, path in self.paths.items() if _look_up(record, path) is not _MISSING}


def parse_paths(text: str) -> dict[str, str]:
    """Read `field=path,field=path`, as the command line takes it.

    Raises
    ------
    UsageError
        If a part is not `field=path`, a field is none of `FIELDS`, or is named twice.

    Examples
    --------
    >>> parse_paths("query=prompt, group=meta.group")
    {'query': 'prompt', 'group': 'meta.group'}
    """
    paths: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, path = (piece.strip() for piece in part.partition("="))
        if not (name and equals and path):
            raise UsageError(f"--map has {part!r}; write field=column, as in query=prompt")
        if name in paths:
            raise UsageError(f"--map names {name} twice: {paths[name]!r} and {path!r}")
        paths[name] = path
    _check_fields(paths)
    return paths


def leaf_paths(record: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths that a column map can name in a record.

    Examples
    --------
    >>> list(leaf_paths({"id": 1, "meta": {"group": "g"}}))
    ['id', 'meta.group']
    """
    for name, value in record.items():
        if isinstance(value, Mapping) and value:
            yield from leaf_paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _check_fields(names: Iterable[str]) -> None:
    for name in names:
        if name not in FIELDS:
            raise UsageError(
                f"the column map has no field {name!r}; fields are {', '.join(FIELDS)}"
            )


def _look_up(record: object, path: str) -> object:
    """Follow a dotted path; a column whose own name has the dots comes first."""
    if not isinstance(record, Mapping):
        return _MISSING
    if path in record:
        return record[path]
    head, dot, rest = path.partition(".")
    return _look_up(record[head], rest) if dot and head in record else _MISSING
