"""Fine-tuning out of fold: the outputs for each row come from an encoder that never saw it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.encoder import Encoder
from querytier.classifier.model.nets import Linear
from querytier.data.examples import Examples
from querytier.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from querytier.training.encoders.fine_tuning import fine_tune
from querytier.training.encoders.trainer import FineTuneSettings
from querytier.training.folds import group_folds
from querytier.training.linear_models import fit_linear, gain_rows, soft_rows
from querytier.training.recipes import ranking_of

__all__ = ["FineTunedEncoder", "fine_tune_out_of_fold"]

_REGULARISATION = 1.0


@dataclass(frozen=True, eq=False)
class FineTunedEncoder:
    """A fine-tuned encoder, with outputs for the rows that it was fine-tuned on.

    Attributes
    ----------
    encoder : Encoder
        Fine-tuned on all rows.
    outputs : Linear
        Maps its embeddings to the log-odds of needs_frontier and, if there is a gap to recover, of
        cheap better, tie and frontier better.
    out_of_fold : mapping of str to ndarray of float32, shape (k,)
        Outputs for each training row, by its id, from an encoder that was fine-tuned without its
        fold.
    """

    encoder: Encoder
    outputs: Linear
    out_of_fold: Mapping[str, NDArray[np.float32]]


def fine_tune_out_of_fold(
    encoder: Encoder,
    train: Examples,
    settings: FineTuneSettings,
    *,
    folds: int,
    masks: Sequence[NDArray[np.bool_]] | None = None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
    trainer_folder: Path | None = None,
) -> FineTunedEncoder:
    """Fine-tune an encoder on all rows, and once for each fold on the other folds.

    Parameters
    ----------
    encoder : Encoder
    train : Examples
        The training split. Its ranking decides the objective: "gain" or "need".
    settings : FineTuneSettings
        With its seed, the folds are those of the candidates.
    folds : int
    masks : sequence of ndarray of bool, shape (n,), optional
        Held-out rows of each fold; by default folds by group.
    checkpoints : Checkpoints
        Where the outputs of each fold are saved.
    trainer_folder : Path, optional
        Folder for the state of each fine-tuning, from which an interrupted one resumes.

    Raises
    ------
    TrainingError
        As in `fine_tune`.
    """
    settings = replace(settings, objective="gain" if ranking_of(train) == "gain" else "need")

    def fit(rows: Examples, name: str) -> tuple[Encoder, Linear]:
        checkpoint = trainer_folder and trainer_folder / name
        tuned = fine_tune(encoder, rows, settings, checkpoint=checkpoint)
        return tuned, _fit_outputs(tuned, rows)

    def held_out_outputs(fold: int, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        tuned, outputs = fit(train.where(~mask), f"fold-{fold}")
        return outputs.outputs(_embeddings(tuned, train.where(mask))).astype(np.float32)

    # Later learners read outputs and not embeddings (stacked generalisation, Wolpert 1992): the
    # embeddings of two fine-tunings are in different spaces, but their outputs mean the same.
    out_of_fold: dict[str, NDArray[np.float32]] = {}
    for fold, mask in enumerate(masks or group_folds(train, folds, settings.seed)):
        outputs = checkpoints.load_or_compute(
            f"fine-tuned, fold {fold}",
            lambda fold=fold, mask=mask: held_out_outputs(fold, mask),  # type: ignore[misc]
        )
        out_of_fold |= dict(zip(train.id[mask].tolist(), outputs, strict=True))
    return FineTunedEncoder(*fit(train, "all"), out_of_fold)


def _fit_outputs(encoder: Encoder, rows: Examples) -> Linear:
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
