"""Fine-tuning that can be judged: out of fold, each row is seen by an encoder that never saw it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.encoder import Encoder
from querytier.classifier.model.nets import Linear
from querytier.data.examples import Examples
from querytier.training.baselines import group_folds
from querytier.training.checkpoints import NOTHING_KEPT, Kept
from querytier.training.encoders.fine_tuning import fine_tuned
from querytier.training.linear_models import fit_linear, gain_rows, soft_rows
from querytier.training.recipes import ranking_of

__all__ = ["Tuned", "cross_tuned"]

_REGULARISATION = 1.0


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned encoder, and what it would say of the very rows that it was tuned on.

    Attributes
    ----------
    encoder : Encoder
        Fine-tuned on all rows.
    outputs : Linear
        Of its embeddings, the log-odds of needs_frontier and, where there is a gap to recover, of
        cheap better, tie and frontier better.
    out_of_fold : mapping of str to ndarray of float32, shape (k,)
        The outputs of each training row, by its id, of an encoder that was tuned without its fold.
    """

    encoder: Encoder
    outputs: Linear
    out_of_fold: Mapping[str, NDArray[np.float32]]


def cross_tuned(
    base: Encoder,
    train: Examples,
    *,
    folds: int,
    seed: int,
    masks: Sequence[NDArray[np.bool_]] | None = None,
    kept: Kept = NOTHING_KEPT,
    checkpoints: Path | None = None,
    **settings: Any,
) -> Tuned:
    """Fine-tune an encoder on all rows, and for each fold on the other ones.

    The embeddings of two fine-tunings lie in spaces of their own, so what later learners read are
    their outputs, which mean the same (stacked generalisation; Wolpert 1992).

    Parameters
    ----------
    base : Encoder
    train : Examples
        Of the training split.
    folds, seed : int
        The folds are those on which candidates are compared.
    masks : sequence of ndarray of bool, shape (n,), optional
        Held-out rows of each fold, where they are others.
    kept : Kept
        Where the outputs of a fold outlive an interruption.
    checkpoints : Path, optional
        Gets the state of each fine-tuning, from which an interrupted one goes on.
    **settings
        Of `fine_tuned`.

    Raises
    ------
    TrainingError
        As in `fine_tuned`.
    """
    settings = {"objective": "gain" if ranking_of(train) == "gain" else "need", **settings}

    def tuned_on(rows: Examples, name: str) -> tuple[Encoder, Linear]:
        checkpoint = checkpoints and checkpoints / name
        encoder = fine_tuned(base, rows, seed=seed, checkpoint=checkpoint, **settings)
        return encoder, _outputs(encoder, rows)

    def held_out_outputs(fold: int, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        encoder, outputs = tuned_on(train.where(~mask), f"fold-{fold}")
        return outputs.outputs(_embeddings(encoder, train.where(mask))).astype(np.float32)

    out_of_fold: dict[str, NDArray[np.float32]] = {}
    for fold, mask in enumerate(masks or group_folds(train, folds, seed)):
        said = kept.scores(
            f"fine-tuned, fold {fold}",
            lambda fold=fold, mask=mask: held_out_outputs(fold, mask),  # type: ignore[misc]
        )
        out_of_fold |= dict(zip(train.id[mask].tolist(), said, strict=True))
    return Tuned(*tuned_on(train, "all"), out_of_fold)


def _outputs(encoder: Encoder, rows: Examples) -> Linear:
    embeddings = _embeddings(encoder, rows)
    nets = [fit_linear(embeddings, soft_rows(rows.needs_frontier, rows.weight), 2, _REGULARISATION)]
    if ranking_of(rows) == "gain":
        gains = gain_rows(rows.frontier_score - rows.cheap_score, rows.weight)
        nets.append(fit_linear(embeddings, gains, 3, _REGULARISATION))
    return Linear(
        np.vstack([net.weights for net in nets]), np.concatenate([net.bias for net in nets])
    )


def _embeddings(encoder: Encoder, rows: Examples) -> NDArray[np.float32]:
    return encoder.encode(rows.views())
