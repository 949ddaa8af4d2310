"""Examples as columns, in memory and in Parquet, and their fingerprint."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats, Strings
from querytier.data.column_map import PLANNED
from querytier.data.example import Example
from querytier.data.text_view import text_view

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["Examples", "Fingerprint"]


_KINDS: dict[str, type[object]] = {
    field.name: object if field.type is str else np.float64 for field in fields(Example)
}
_ARROW: dict[type[object], str] = {object: "string", np.float64: "float64"}


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples as columns of equal length n.

    Attributes
    ----------
    id, query, unlabelled, group, domain, language, source, label_source, tier, feedback, policy, \
time, split, selected : ndarray of object, shape (n,)
        Texts, as in `Example`.
    needs_frontier, weight, cheap_score, frontier_score, ok_threshold, cheap_cost, frontier_cost, \
input_tokens, cheap_output_tokens, frontier_output_tokens, outcome, propensity : ndarray of \
float64, shape (n,)
        Numbers, as in `Example`; NaN if the log does not have them.
    """

    id: Strings
    query: Strings
    needs_frontier: Floats
    unlabelled: Strings
    weight: Floats
    group: Strings
    domain: Strings
    language: Strings
    source: Strings
    label_source: Strings
    cheap_score: Floats
    frontier_score: Floats
    ok_threshold: Floats
    cheap_cost: Floats
    frontier_cost: Floats
    input_tokens: Floats
    cheap_output_tokens: Floats
    frontier_output_tokens: Floats
    tier: Strings
    outcome: Floats
    feedback: Strings
    propensity: Floats
    policy: Strings
    time: Strings
    split: Strings
    selected: Strings

    def __len__(self) -> int:
        return len(self.id)

    @classmethod
    def of(cls, rows: list[Example]) -> Self:
        """Return rows as columns."""
        columns: dict[str, Any] = {
            name: np.array([getattr(row, name) for row in rows], dtype=kind)
            for name, kind in _KINDS.items()
        }
        return cls(**columns)

    @classmethod
    def concatenated(cls, parts: Sequence["Examples"]) -> Self:
        """Return the rows of one or more sets of examples as one set."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in _KINDS
        }
        return cls(**columns)

    @classmethod
    def read_parquet(cls, path: Path) -> Self:
        """Read what `write_parquet` wrote."""
        import pyarrow.parquet as pq

        return cls.of_table(pq.read_table(path))

    def write_parquet(self, path: Path) -> None:
        """Write the examples as a Parquet file of `schema`."""
        import pyarrow.parquet as pq

        pq.write_table(self.table(), path)

    @classmethod
    def of_table(cls, table: "pa.Table | pa.RecordBatch") -> Self:
        """Return the columns of an Arrow table or batch."""
        # Version 0.1.0 called the split a role; the record of a retrain loop may be that old.
        names = ["split" if name == "role" else name for name in table.schema.names]
        table = table.rename_columns(names)
        columns: dict[str, Any] = {
            name: np.array(table.column(name).to_pylist(), dtype=kind)
            for name, kind in _KINDS.items()
            if name in names
        }
        # In files from before plans existed, every query was selected at random.
        columns.setdefault("selected", np.full(table.num_rows, "random", dtype=object))
        return cls(**columns)

    def table(self) -> "pa.Table":
        """Return the examples as an Arrow table of `schema`."""
        import pyarrow as pa

        columns = {name: getattr(self, name) for name in _KINDS}
        return pa.Table.from_pydict(columns, schema=self.schema())

    @staticmethod
    def schema() -> "pa.Schema":
        """Return the Arrow schema of examples."""
        import pyarrow as pa

        return pa.schema([(name, pa.type_for_alias(_ARROW[kind])) for name, kind in _KINDS.items()])

    def dataset(self) -> "datasets.Dataset":
        """Return the examples as a `datasets.Dataset` with explicit features."""
        import datasets

        features = {name: datasets.Value(_ARROW[kind]) for name, kind in _KINDS.items()}
        return datasets.Dataset(self.table().cast(datasets.Features(features).arrow_schema))

    def with_splits(self, groups: NDArray[np.uint64], splits: Strings) -> Self:
        """Return the examples with new groups, written as 16 hexadecimal digits, and new splits."""
        names = np.array([f"{group:016x}" for group in groups.tolist()], dtype=object)
        return replace(self, group=names, split=splits)

    def where(self, mask: NDArray[np.bool_]) -> Self:
        """Return the rows for which `mask`, of shape (n,), holds."""
        return replace(
            self, **{field.name: getattr(self, field.name)[mask] for field in fields(self)}
        )

    def of_split(self, *splits: str) -> Self:
        """Return the rows whose split is among `splits`."""
        return self.where(np.isin(self.split.astype(str), splits))

    def views(self) -> list[str]:
        """Return the text view of every query: what the classifier reads.

        Computed at each call, so keep the list if a function needs it twice.
        """
        return [text_view(query) for query in self.query.tolist()]

    def seconds(self) -> Floats:
        """Return every row's time in seconds since 1970, NaN without a time, shape (n,)."""
        times = self.time.tolist()
        found = (datetime.fromisoformat(time).timestamp() if time else np.nan for time in times)
        return np.fromiter(found, np.float64, len(self))

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which rows have a label, shape (n,)."""
        return ~np.isnan(self.needs_frontier)

    @property
    def planned(self) -> NDArray[np.bool_]:
        """Which rows a plan selected, rather than chance, shape (n,)."""
        return np.asarray(self.selected == PLANNED, dtype=np.bool_)

    @property
    def scored(self) -> bool:
        """Whether every row has both scores."""
        return not bool(np.isnan(self.cheap_score + self.frontier_score).any())

    @property
    def priced(self) -> bool:
        """Whether every row has both costs."""
        return not bool(np.isnan(self.cheap_cost + self.frontier_cost).any())

    def fingerprint(self) -> str:
        """Return the fingerprint of the rows, which does not depend on their order."""
        fingerprint = Fingerprint()
        fingerprint.add(self)
        return fingerprint.hexdigest()


class Fingerprint:
    """The sum of the rows' sha256, modulo 2**256: the same in any order and in any batches.

    A log is fingerprinted as it streams by; a hash over sorted rows would need all rows in memory.
    """

    def __init__(self) -> None:
        self._sum = 0

    def add(self, examples: Examples) -> None:
        """Add rows."""
        names = [name for name in _KINDS if name != "selected"]
        columns = [getattr(examples, name).tolist() for name in names]
        planned = examples.planned.tolist()
        for row, is_planned in zip(zip(*columns, strict=True), planned, strict=True):
            # Rows selected at random keep the hash they had before plans existed, so that the
            # fingerprints of old artifacts stay valid.
            content = [*row, PLANNED] if is_planned else row
            # JSON writes the shortest number that reads back the same, on every machine.
            digest = hashlib.sha256(json.dumps(content).encode()).digest()
            self._sum = (self._sum + int.from_bytes(digest)) % 2**256

    def hexdigest(self) -> str:
        """Return the fingerprint in 64 hexadecimal digits."""
        return f"{self._sum:064x}"
