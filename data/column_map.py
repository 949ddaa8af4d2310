"""The column map: which column of a user's log records holds each field of an example."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from querytier.errors import UsageError

__all__ = ["FIELDS", "PLANNED", "ColumnMap", "leaf_paths", "parse_paths"]

PLANNED = "planned"

FIELDS = (
    *("query", "id", "group", "domain", "language"),
    *("needs_frontier", "cheap_score", "frontier_score", "weight", "cheap_cost", "frontier_cost"),
    *("label_source", "time", "source", "selected", "cheap_grades", "frontier_grades", "winner"),
    # For one-sided logs, which have the answer of only one tier.
    *("tier", "outcome", "feedback", "cost", "propensity", "policy"),
    *("input_tokens", "output_tokens", "cheap_output_tokens", "frontier_output_tokens"),
)

_MISSING = object()  # null is a value: the column exists


@dataclass(frozen=True)
class ColumnMap:
    """The dotted path in a log record of each field of an example.

    In a list of named values, a path finds the last value of a name.

    Parameters
    ----------
    paths : mapping of str to str
        Paths by field, one of `FIELDS`; `query` is required.

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
                "the column map has no query; add query=COLUMN, such as --map query=prompt"
            )

    @staticmethod
    def paths_of_same_names(record: Mapping[str, object]) -> dict[str, str]:
        """Map every field to the column of the same name, if the record has one."""
        return {name: name for name in FIELDS if name in record}

    def values(self, record: Mapping[str, object]) -> dict[str, object]:
        """Return the values of the mapped fields by field name, without missing or null ones."""
        found = {name: _look_up(record, path) for name, path in self.paths.items()}
        if record.get("selected") == PLANNED:
            # Even if it is not mapped: a row that a plan selected is not a random sample, and an
            # estimate that treats it as one is biased.
            found.setdefault("selected", PLANNED)
        return {name: value for name, value in found.items() if value not in (_MISSING, None)}

    def present(self, record: Mapping[str, object]) -> set[str]:
        """Return the fields whose column the record has, even if its value is null."""
        return {name for name, path in self.paths.items() if _look_up(record, path) is not _MISSING}


def parse_paths(text: str) -> dict[str, str]:
    """Return the paths of `field=path,field=path`, the text of `--map`.

    Raises
    ------
    UsageError
        If a part is not `field=path`, or a field is unknown or named twice.

    Examples
    --------
    >>> parse_paths("query=prompt, group=meta.group")
    {'query': 'prompt', 'group': 'meta.group'}
    """
    paths: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, path = (piece.strip() for piece in part.partition("="))
        if not (name and equals and path):
            raise UsageError(f"--map has {part!r}; write field=column, such as query=prompt")
        if name in paths:
            raise UsageError(f"--map names {name} twice: {paths[name]!r} and {path!r}")
        paths[name] = path
    _check_fields(paths)
    return paths


def leaf_paths(record: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of all values of a record that a column map can name.

    Examples
    --------
    >>> list(leaf_paths({"id": 1, "meta": {"group": "g"}}))
    ['id', 'meta.group']
    >>> list(leaf_paths({"outcomes": [{"name": "correct", "value": 0.8, "source": "EVAL"}]}))
    ['outcomes.correct']
    """
    for name, value in record.items():
        inner = _as_mapping(value)
        if inner:
            yield from leaf_paths(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _check_fields(names: Iterable[str]) -> None:
    for name in names:
        if name not in FIELDS:
            raise UsageError(
                f"{name!r} is not a field of the column map; fields are {', '.join(FIELDS)}"
            )


def _look_up(record: object, path: str) -> object:
    """Return the value at a dotted path, or `_MISSING`.

    A dot may be part of a name (`gen_ai.usage`), so the longest name that the record has wins.
    """
    inner = _as_mapping(record)
    if path in inner:
        return inner[path]
    dots = (place for place, character in enumerate(path) if character == ".")
    heads = (path[:place] for place in reversed(list(dots)))
    found = (_look_up(inner[head], path[len(head) + 1 :]) for head in heads if head in inner)
    return next((value for value in found if value is not _MISSING), _MISSING)


def _as_mapping(value: object) -> Mapping[str, object]:
    """Return a mapping, or a list of named values as a mapping; empty if it is neither."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, list) or not all(map(_is_named_value, value)):
        return {}
    return {item["name"]: item["value"] for item in value}


def _is_named_value(item: object) -> bool:
    return isinstance(item, Mapping) and "value" in item and isinstance(item.get("name"), str)
