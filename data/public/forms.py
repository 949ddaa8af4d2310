"""The layouts in which public sets are published, and the models in them.

Known from the sets' cards and from programs that read them.
"""

import re
from collections import Counter
from collections.abc import Mapping

from querytier.data.values import sequence_in
from querytier.errors import LogError

__all__ = ["ModelCounts", "as_log_row"]

_COST = "|total_cost"
_NOT_NEEDED = re.compile(r"response|^conversation_b$|^full_conversation$|embedding")


def as_log_row(fields: Mapping[str, object]) -> dict[str, object]:
    """Return a row without the models' answers, in a layout that `querytier.data.formats` reads.

    RoutingCompendium has the scores of RouterBench as a list in the order of `models_name`, and no
    costs: they become RouterBench's own columns, one of scores and one of (null) costs per model.

    Raises
    ------
    LogError
        If the number of scores is not that of the models.

    Examples
    --------
    >>> as_log_row({"prompt": "Hi", "m": 1.0, "m|total_cost": 0.1, "m|model_response": "Hello"})
    {'prompt': 'Hi', 'm': 1.0, 'm|total_cost': 0.1}
    >>> row = {"prompt": "Hi", "dataset": "d", "models_name": ["m"], "models_performance": [1.0]}
    >>> as_log_row(row)
    {'prompt': 'Hi', 'eval_name': 'd', 'm': 1.0, 'm|total_cost': None}
    """
    if "models_performance" not in fields:
        return {name: value for name, value in fields.items() if not _NOT_NEEDED.search(name)}
    names, scores = map(sequence_in, (fields.get("models_name"), fields["models_performance"]))
    if len(names) != len(scores):
        raise LogError(
            f"a row has {len(names)} models_name and {len(scores)} models_performance; download "
            "the set again"
        )
    row = {"prompt": fields.get("prompt"), "eval_name": fields.get("dataset")}
    for name, score in zip(names, scores, strict=True):
        row |= {str(name): score, f"{name}{_COST}": None}
    return row


class ModelCounts:
    """The models of a set, and the two of them with the most votes between them.

    Attributes
    ----------
    rows : int
        Rows counted so far.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._answers: Counter[str] = Counter()
        self._votes: Counter[tuple[str, str]] = Counter()
        self._wins: Counter[tuple[tuple[str, str], str]] = Counter()

    def add(self, row: Mapping[str, object]) -> None:
        """Count the models of a row."""
        self.rows += 1
        if "model_a" in row:
            self._add_vote(row, str(row["model_a"]), str(row["model_b"]))
        elif "model_name" in row:
            self._answers[str(row["model_name"])] += 1
        else:
            self._answers.update(n.removesuffix(_COST) for n in row if n.endswith(_COST))

    def models(self) -> tuple[str, ...]:
        """Return the models, most frequent first."""
        return tuple(model for model, _ in self._answers.most_common())

    def pair(self) -> tuple[str, str] | None:
        """Return the two models with the most votes between them, the one with more wins last."""
        if not self._votes:
            return None
        (pair, _), *_ = self._votes.most_common(1)
        one, other = pair
        is_better = self._wins[pair, one] > self._wins[pair, other]
        return (other, one) if is_better else (one, other)

    def _add_vote(self, row: Mapping[str, object], one: str, other: str) -> None:
        self._answers.update((one, other))
        if one == other:
            return
        # Sides are random, so the pair is sorted before its votes are counted.
        pair = (min(one, other), max(one, other))
        self._votes[pair] += 1
        for side, model in (("model_a", one), ("model_b", other)):
            # In CSV, the flags of the table of votes are text.
            if row.get("winner") == side or str(row.get(f"winner_{side}")) in ("1", "1.0", "True"):
                self._wins[pair, model] += 1
