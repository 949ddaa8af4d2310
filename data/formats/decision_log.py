"""The log of our own decisions, and what was said of the answers later.

A router that serves writes each decision when it is made (`querytier.serve.log.decision_log`),
and the outcome of its answer, which comes minutes or days later, to a file of its
own under the decision's id. Here the two are joined.

Of several outcomes of one decision the last in time counts, for each of what `judgement_of` reads
by itself: a cost that comes after a vote does not take the vote away. Of the same time, or without
one, it is the later line.

The two scores tell how good the answers of both tiers were, for queries that both were asked, such
as those of an audit. Where both are known they make the label, and not what became of the one
answer that was given.

Decisions that the classifier did not make are kept. They have propensity 1, as what decided instead
left no chance to the other tier, and the policy of such a row is the model version with the reason
behind a plus (`v3+fallback:timeout`): another rule chose there than `v3`, and a new policy can only
be compared with the rule that chose. What is explored belongs to the version's own policy, whose
propensities tell of the chance.

The tenant that asked is the `source` of the example: what is counted, capped and audited by source
is so by tenant.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from querytier.data.example import feedback_of
from querytier.data.formats.canonical import (
    EMPTY_QUERY,
    HASHED_QUERY,
    NO_DECISION,
    UnusableRecordError,
    converted,
    unusable,
)
from querytier.data.formats.reading import Record
from querytier.data.values import BadRecordError, number_of, text_of, time_of

__all__ = ["DECISION_FIELDS", "are_decisions", "decision_records", "judgement_of"]

Fields = Mapping[str, object]

DECISION_FIELDS = (
    *("id", "time", "conversation", "domain", "query", "tier", "propensity", "policy"),
    *("outcome", "feedback", "cost", "source"),
    *("cheap_score", "frontier_score", "cheap_cost", "frontier_cost"),
)
_MARKS = {"tier", "propensity", "policy", "reason", "decision_score", "threshold", "latency_ms"}
_NUMBERS = {
    **dict.fromkeys(("outcome", "cheap_score", "frontier_score"), 1.0),
    **dict.fromkeys(("cost", "cheap_cost", "frontier_cost"), math.inf),
}
_OF_THE_CLASSIFIER = ("classifier", "explore")


def are_decisions(fields: Fields) -> bool:
    """Tell whether a record is a decision of ours, its text kept or not."""
    return fields.keys() >= _MARKS


def decision_records(
    records: Iterator[Record],
    outcomes: Iterable[Record] | None,
    elsewhere: Iterable[Record] | None = (),
) -> Iterator[Record]:
    """Yield a record a decision, with what was said of its answer.

    Every record has all of `DECISION_FIELDS`, null where there is nothing to tell: outcomes may
    come first with the millionth decision. A decision whose text was not kept, and an outcome of no
    decision, come with a problem that `is_passed_over` knows.

    Memory: all outcomes, none of the decisions.

    Parameters
    ----------
    records : iterator of Record
    outcomes : iterable of Record, optional
        With `id`, `time` and any of what `judgement_of` reads.
    elsewhere : iterable of Record or None
        The other files of the log, whose decisions the same outcomes judge. None leaves it to one
        of those files to say which outcomes are bad, or of no decision.
    """
    said = _Said()
    bad = list(filter(None, map(said.take, outcomes or ())))
    if elsewhere is not None:
        yield from bad
    for record in records:
        yield converted(record, lambda fields: _canonical(fields, said))
    if elsewhere is not None:
        yield from said.left(elsewhere)


def judgement_of(values: Fields) -> dict[str, float | str]:
    """Return what a record says of the answers to a query.

    Any of outcome, feedback and cost, of the answer that was given, and of cheap_score and
    frontier_score, cheap_cost and frontier_cost, where both tiers were asked.

    Raises
    ------
    BadRecordError
        If it says nothing; the outcome or a score is no number in [0, 1], the feedback none of the
        known words, or a cost no number of 0 or more.

    Examples
    --------
    >>> judgement_of({"outcome": 1, "feedback": "Thumbs up", "cost": None})
    {'outcome': 1.0, 'feedback': 'thumbs_up'}
    >>> judgement_of({"cheap_score": 0, "frontier_score": 1})
    {'cheap_score': 0.0, 'frontier_score': 1.0}
    """
    given = _given(values)
    judged: dict[str, float | str] = {}
    for name, limit in _NUMBERS.items():
        if name in given:
            judged[name] = _within(given, name, limit)
    if feedback := feedback_of(given):
        judged["feedback"] = feedback
    if not judged:
        raise BadRecordError(f"none of feedback, {', '.join(_NUMBERS)}")
    return judged


class _Said:
    """What was said of answers, by the decision's id."""

    def __init__(self) -> None:
        self._by_id: dict[str, dict[str, tuple[str, object]]] = {}
        self._lines: dict[str, int] = {}
        self._joined: set[str] = set()

    def take(self, record: Record) -> Record | None:
        """Keep what a record says; return one that is bad, with the problem."""
        if record.fields is None:
            return replace(record, problem=f"bad outcome: {record.problem}")
        try:
            self._keep(record, record.fields)
        except BadRecordError as error:
            return unusable(record, f"bad outcome: {error}")
        return None

    def of(self, own_id: str) -> dict[str, object]:
        """Return what was said of a decision's answer."""
        said = self._by_id.get(own_id, {})
        if said:
            self._joined.add(own_id)
        return {name: value for name, (_, value) in said.items()}

    def left(self, elsewhere: Iterable[Record]) -> Iterator[Record]:
        """Yield the outcomes of no decision, one an id."""
        left = dict.fromkeys(own_id for own_id in self._by_id if own_id not in self._joined)
        for record in elsewhere if left else ():
            left.pop(text_of(_given(record.fields or {}), "id"), None)
        for own_id in left:
            yield Record(self._lines[own_id], None, f"{NO_DECISION}: {own_id}", own_id)

    def _keep(self, record: Record, fields: Fields) -> None:
        given = _given(fields)
        own_id, time, judged = text_of(given, "id"), time_of(given), judgement_of(given)
        if not own_id:
            raise BadRecordError("id missing")
        kept = self._by_id.setdefault(own_id, {})
        self._lines[own_id] = record.line
        for name, value in judged.items():
            if name not in kept or time >= kept[name][0]:
                kept[name] = (time, value)


def _canonical(fields: Fields, said: _Said) -> dict[str, object]:
    judged = said.of(text_of(_given(fields), "id"))
    _check_text(fields)
    own = {name: fields.get(name) for name in DECISION_FIELDS}
    place = {"conversation": fields.get("group"), "source": fields.get("tenant")}
    return {**own, **place, "policy": _policy(fields), **judged}


def _check_text(fields: Fields) -> None:
    query = fields.get("query")
    if query is None and "query_sha256" in fields:
        raise UnusableRecordError(HASHED_QUERY)
    if not isinstance(query, str):
        raise UnusableRecordError("query not logged")
    if fields.get("reason") == "fallback:empty" or not query.strip():
        raise UnusableRecordError(EMPTY_QUERY)


def _policy(fields: Fields) -> object:
    version, reason = fields.get("policy"), fields.get("reason")
    if not isinstance(version, str) or reason in _OF_THE_CLASSIFIER:
        return version
    return f"{version}+{reason}"


def _within(given: Fields, name: str, limit: float) -> float:
    number = number_of(given, name)
    if number < 0 or number > limit:
        raise BadRecordError(f"{name} outside [0, {limit:g}]: {number:g}")
    return number


def _given(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}
