"""Judgements that a log stores apart from the calls they judge: kept until the calls arrive."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from querytier.data.formats.canonical import NESTED_TOO_DEEPLY, UnusableRecordError, unusable
from querytier.data.formats.reading import Record

__all__ = ["Judgement", "Judgements"]

Outcome = dict[str, object]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judgement of an answer.

    Attributes
    ----------
    record : Record
        The record of the judgement.
    targets : tuple of str
        Names of the call that it judges; each is enough to find the call.
    judgement_id : str
        Distinguishes a judgement that is logged again from another one of the same target.
    time : datetime or None
    outcome : dict
        Name, value and source.
    """

    record: Record
    targets: tuple[str, ...]
    judgement_id: str
    time: datetime | None
    outcome: Outcome


class Judgements:
    """Judgements by target.

    Memory: all judgements, none of the calls.

    Parameters
    ----------
    problem : str
        The problem of a judgement that belongs to no call.
    judgement_of : callable
        Returns the judgement of a record and its fields, or raises `UnusableRecordError`.
    """

    def __init__(
        self, problem: str, judgement_of: Callable[[Record, Mapping[str, object]], Judgement]
    ) -> None:
        self._problem = problem
        self._judgement_of = judgement_of
        self._by_target: dict[str, dict[str, Judgement]] = {}
        self._joined: set[tuple[str, str]] = set()

    def add(self, record: Record) -> Record | None:
        """Keep the newest judgement of each id; return the record if it is not a judgement."""
        if record.fields is None:
            return record
        try:
            judgement = self._judgement_of(record, record.fields)
        except UnusableRecordError as error:
            return unusable(record, str(error))
        except RecursionError:
            return unusable(record, NESTED_TOO_DEEPLY)
        for target in judgement.targets:
            self._keep(target, judgement)
        return None

    def outcomes(self, *targets: str | None) -> list[Outcome]:
        """Return the outcomes so far of a call, by any of its names."""
        found: dict[str, Outcome] = {}
        for target in filter(None, targets):
            for judgement_id, judgement in self._by_target.get(target, {}).items():
                self._joined.add((target, judgement_id))
                found.setdefault(judgement_id, judgement.outcome)
        return list(found.values())

    def unmatched(self) -> Iterator[Record]:
        """Yield the judgements that belong to no call so far."""
        for first, judgements in self._by_target.items():
            for judgement_id, judgement in judgements.items():
                names = {(target, judgement_id) for target in judgement.targets}
                if judgement.targets[0] == first and self._joined.isdisjoint(names):
                    yield unusable(judgement.record, f"{self._problem}: {first}")

    def _keep(self, target: str, judgement: Judgement) -> None:
        # Exports repeat judgements, and a person may change one: the newest of an id counts.
        same = self._by_target.setdefault(target, {})
        kept = same.setdefault(judgement.judgement_id, judgement)
        if not (kept.time and judgement.time and judgement.time < kept.time):
            same[judgement.judgement_id] = judgement
