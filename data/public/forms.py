"""The layouts in which public sets are published, and their reshaping to what the reader reads.

Known from the sets' cards and from programs that read them; each is checked by its column names, so
that a set published anew under other names is refused, and not misread.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from querytier.errors import LogError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Form", "ModelTally", "arena_votes", "compendium_scores", "routerbench_scores"]

_COST = "|total_cost"
_VOTE_COLUMNS = (
    "id",
    "question_id",
    "model_a",
    "model_b",
    "winner",
    "winner_model_a",
    "winner_model_b",
    "winner_tie",
    "evaluation_session_id",
    "prompt",
    "conversation_a",
    "language",
    "timestamp",
    "tstamp",
)


@dataclass(frozen=True, slots=True)
class Form:
    """A layout of a set's files.

    Attributes
    ----------
    columns : tuple of str
        Columns that it must have.
    reshaped : callable
        From a table of these columns (and more) to one of those that the reader needs.
    """

    columns: tuple[str, ...]
    reshaped: Callable[["pa.Table"], "pa.Table"]


@dataclass(slots=True)
class ModelTally:
    """What the models of a set are, and which two of them were voted on most often."""

    _answers: Counter[str] = field(default_factory=Counter)
    _votes: Counter[tuple[str, str]] = field(default_factory=Counter)
    _wins: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def take(self, table: "pa.Table") -> None:
        """Count the models of a reshaped table."""
        if "model_a" in table.column_names:
            self._take_votes(table)
        elif "model_name" in table.column_names:
            self._answers.update(table["model_name"].to_pylist())
        else:
            self._answers.update(dict.fromkeys(_scored_models(table), table.num_rows))

    def models(self) -> tuple[str, ...]:
        """Return the models, most frequent first."""
        return tuple(model for model, _ in self._answers.most_common())

    def pair(self) -> tuple[str, str] | None:
        """Return the two models with most votes between them, the more often chosen one last."""
        if not self._votes:
            return None
        (one, other), _ = self._votes.most_common(1)[0]
        is_better = self._wins[one, other, one] > self._wins[one, other, other]
        return (other, one) if is_better else (one, other)

    def _take_votes(self, table: "pa.Table") -> None:
        named = (
            ["winner"] if "winner" in table.column_names else ["winner_model_a", "winner_model_b"]
        )
        for vote in table.select(["model_a", "model_b", *named]).to_pylist():
            one, other = vote["model_a"], vote["model_b"]
            self._answers.update((one, other))
            if one == other:
                continue
            pair = (min(one, other), max(one, other))
            self._votes[pair] += 1
            for side in ("model_a", "model_b"):
                if vote.get("winner") == side or vote.get(f"winner_{side}"):
                    self._wins[(*pair, vote[side])] += 1


def routerbench_scores(table: "pa.Table") -> "pa.Table":
    """Return RouterBench's own table without the models' answers, which are most of it.

    Raises
    ------
    LogError
        If there are not both a score and a cost column of two models.
    """
    models = _scored_models(table)
    if len(models) < 2:
        raise LogError(
            "RouterBench's table has a column MODEL with scores and one MODEL|total_cost for each "
            f"model; this one has both of {', '.join(models) or 'no model'}"
        )
    known = [name for name in ("sample_id", "prompt", "eval_name") if name in table.column_names]
    return table.select([*known, *models, *(model + _COST for model in models)])


def compendium_scores(table: "pa.Table") -> "pa.Table":
    """Return RouterBench's table from that of RoutingCompendium, which has no cost an answer.

    `models_performance` has the scores in the order of `models_name`; the costs are null.

    Raises
    ------
    LogError
        If two rows differ in their models, or a row in the number of its scores.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = table["models_name"].to_pylist()
    scores = table["models_performance"]
    counts = set(pc.list_value_length(scores).to_pylist())
    if not names[0] or any(row != names[0] for row in names) or counts != {len(names[0])}:
        raise LogError(
            "the rows of RoutingCompendium's table differ in models_name, or in the number of "
            "models_performance; download it again"
        )
    columns = {"prompt": table["prompt"], "eval_name": table["dataset"]}
    columns |= {name: pc.list_element(scores, place) for place, name in enumerate(names[0])}
    unknown = pa.nulls(table.num_rows, pa.float64())
    return pa.table(columns | {name + _COST: unknown for name in names[0]})


def arena_votes(table: "pa.Table") -> "pa.Table":
    """Return a table of votes without what the reader does not need, such as the second answers."""
    return table.select([name for name in _VOTE_COLUMNS if name in table.column_names])


def _scored_models(table: "pa.Table") -> list[str]:
    names = set(table.column_names)
    costed = (name.removesuffix(_COST) for name in table.column_names if name.endswith(_COST))
    return [model for model in costed if model in names]
