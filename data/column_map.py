"""The column map: where each field of an example stands in a user's log records."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from querytier.errors import UsageError

__all__ = ["FIELDS", "PLANNED", "ColumnMap", "leaf_paths", "parse_paths"]

PLANNED = "planned"

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
    "selected",
    "cheap_grades",
    "frontier_grades",
    "winner",
    "tier",
    "outcome",
    "feedback",
    "cost",
    "propensity",
    "policy",
    "input_tokens",
    "output_tokens",
    "cheap_output_tokens",
    "frontier_output_tokens",
)

_MISSING = object()


@dataclass(frozen=True)
class ColumnMap:
    """For each field of an example, the dotted path at which log records hold it.

    In a list of named values a path goes by name, and finds the last value of that name.

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
    >>> columns = ColumnMap({"query": "query", "cheap_score": "outcomes.correct"})
    >>> columns.values({"query": "Hi", "outcomes": [{"name": "correct", "value": 0.8}]})
    {'query': 'Hi', 'cheap_score': 0.8}
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
        if record.get("selected") == PLANNED:
            # Mapped or not: a row that was planned must not pass for one that chance picked.
            found.setdefault("selected", PLANNED)
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
    >>> list(leaf_paths({"outcomes": [{"name": "correct", "value": 0.8, "source": "EVAL"}]}))
    ['outcomes.correct']
    """
    for name, value in record.items():
        inner = _inner(value)
        if inner:
            yield from leaf_paths(inner, f"{prefix}{name}.")
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
    inner = _inner(record)
    if path in inner:
        return inner[path]
    dots = (place for place, character in enumerate(path) if character == ".")
    heads = (path[:place] for place in reversed(list(dots)))
    found = (_look_up(inner[head], path[len(head) + 1 :]) for head in heads if head in inner)
    return next((value for value in found if value is not _MISSING), _MISSING)


def _inner(value: object) -> Mapping[str, object]:
    """Return a mapping, or a list of named values as one; empty where it is neither."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, list) or not all(map(_is_named_value, value)):
        return {}
    return {item["name"]: item["value"] for item in value}


def _is_named_value(item: object) -> bool:
    return isinstance(item, Mapping) and "value" in item and isinstance(item.get("name"), str)
