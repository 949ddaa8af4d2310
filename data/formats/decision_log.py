"""Our own decision log, joined with the outcomes of the answers.

A router writes each decision when it is made (`querytier.serve.log.decision_log`). The outcome of
its answer follows minutes or days later, in another file, under the decision's id.

If a decision has several outcomes, the latest value of each field wins, so a later cost does not
erase an earlier vote. Ties, and outcomes without a time, go to the later line.

If both tiers answered a query, as in an audit, the outcome may contain the scores of both answers.
The label then comes from these scores instead of the outcome of the one answer.

Decisions that the classifier did not make are kept. They have propensity 1, because the other tier
had no chance, and their policy is the model version with the reason after a plus
(`v3+fallback:timeout`): another rule than `v3` chose there, and a new policy can only be compared
with the rule that chose. Explored decisions belong to the version's own policy, whose propensities
account for them.

The tenant becomes the `source` of the example, so counts, caps and audits by source are by tenant.
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
    """Return whether a record is one of our own decisions, with or without its text."""
    return fields.keys() >= _MARKS


def decision_records(
    records: Iterator[Record],
    outcomes: Iterable[Record] | None,
    elsewhere: Iterable[Record] | None = (),
) -> Iterator[Record]:
    """Yield a record for each decision, with the outcome of its answer.

    Every record has all of `DECISION_FIELDS`, null if unknown, because the first outcome may be
    that of the millionth decision. A decision whose text was not kept, and an outcome of no
    decision, have a problem that counts as passed over.

    Memory: all outcomes, none of the decisions.

    Parameters
    ----------
    records : iterator of Record
    outcomes : iterable of Record, optional
        With `id`, `time` and any of the fields that `judgement_of` reads.
    elsewhere : iterable of Record or None
        The other files of the log, whose decisions have outcomes in the same file. None leaves it
        to one of those files to report outcomes that are bad or of no decision.
    """
    known = _Outcomes()
    bad = list(filter(None, map(known.add, outcomes or ())))
    if elsewhere is not None:
        yield from bad
    for record in records:
        yield converted(record, lambda fields: _canonical(fields, known))
    if elsewhere is not None:
        yield from known.unmatched(elsewhere)


def judgement_of(values: Fields) -> dict[str, float | str]:
    """Return the judgement of the answers to a query that a record contains.

    It is any of outcome, feedback and cost, of the answer that was given, and of cheap_score,
    frontier_score, cheap_cost and frontier_cost, if both tiers answered.

    Raises
    ------
    BadRecordError
        If it contains none of them; an outcome or a score is not a number in [0, 1], a cost not a
        number of at least 0, or the feedback not a known word.

    Examples
    --------
    >>> judgement_of({"outcome": 1, "feedback": "Thumbs up", "cost": None})
    {'outcome': 1.0, 'feedback': 'thumbs_up'}
    >>> judgement_of({"cheap_score": 0, "frontier_score": 1})
    {'cheap_score': 0.0, 'frontier_score': 1.0}
    """
    given = _present(values)
    judged: dict[str, float | str] = {}
    for name, limit in _NUMBERS.items():
        if name in given:
            judged[name] = _within(given, name, limit)
    if feedback := feedback_of(given):
        judged["feedback"] = feedback
    if not judged:
        raise BadRecordError(f"none of feedback, {', '.join(_NUMBERS)}")
    return judged


class _Outcomes:
    """The outcomes of answers, by the decision's id."""

    def __init__(self) -> None:
        self._by_id: dict[str, dict[str, tuple[str, object]]] = {}
        self._lines: dict[str, int] = {}
        self._joined: set[str] = set()

    def add(self, record: Record) -> Record | None:
        """Keep an outcome; return a record that is bad, with the problem."""
        if record.fields is None:
            return replace(record, problem=f"bad outcome: {record.problem}")
        try:
            self._keep(record, record.fields)
        except BadRecordError as error:
            return unusable(record, f"bad outcome: {error}")
        return None

    def of(self, decision_id: str) -> dict[str, object]:
        """Return the outcome of a decision's answer."""
        known = self._by_id.get(decision_id, {})
        if known:
            self._joined.add(decision_id)
        return {name: value for name, (_, value) in known.items()}

    def unmatched(self, elsewhere: Iterable[Record]) -> Iterator[Record]:
        """Yield the outcomes of no decision, one per id."""
        ids = dict.fromkeys(name for name in self._by_id if name not in self._joined)
        for record in elsewhere if ids else ():
            ids.pop(text_of(_present(record.fields or {}), "id"), None)
        for name in ids:
            yield Record(self._lines[name], None, f"{NO_DECISION}: {name}", name)

    def _keep(self, record: Record, fields: Fields) -> None:
        given = _present(fields)
        decision_id, time, judged = text_of(given, "id"), time_of(given), judgement_of(given)
        if not decision_id:
            raise BadRecordError("id missing")
        known = self._by_id.setdefault(decision_id, {})
        self._lines[decision_id] = record.line
        for name, value in judged.items():
            # Times are ISO texts of one form, which sort as the times do; no time sorts first.
            if name not in known or time >= known[name][0]:
                known[name] = (time, value)


def _canonical(fields: Fields, outcomes: _Outcomes) -> dict[str, object]:
    # Before the checks: the outcome of a decision without a text still belongs to a known decision.
    judged = outcomes.of(text_of(_present(fields), "id"))
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
    # Another rule decided: an estimate for the version must not mix its decisions with these.
    if not isinstance(version, str) or reason in _OF_THE_CLASSIFIER:
        return version
    return f"{version}+{reason}"


def _within(given: Fields, name: str, limit: float) -> float:
    number = number_of(given, name)
    if number < 0 or number > limit:
        raise BadRecordError(f"{name} outside [0, {limit:g}]: {number:g}")
    return number


def _present(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}
