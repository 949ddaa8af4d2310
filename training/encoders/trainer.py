"""The trainer of an encoder on routing labels: that of sentence-transformers, with our losses."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from querytier.errors import TrainingError

if TYPE_CHECKING:
    import datasets
    import torch
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

__all__ = ["HEAD_OUTPUTS", "FineTuneSettings", "Objective", "routing_trainer"]

Objective = Literal["need", "gain", "contrastive"]

HEAD_OUTPUTS: dict[Objective, int] = {"need": 1, "gain": 3, "contrastive": 0}
_CHECKS_PER_EPOCH = 4
# The head starts at zero, on embeddings of unit length. At the encoder's learning rate it would
# stay too small to pass any gradient on.
_HEAD_LEARNING_RATE = 1e-2

_Features = dict[str, "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class FineTuneSettings:
    """Settings of a fine-tuning run.

    Attributes
    ----------
    objective : {"need", "gain", "contrastive"}
        What the encoder learns. "need": a linear head predicts `needs_frontier` (weighted
        cross-entropy). "gain": it predicts which of the two scores is higher, or a tie (weighted
        cross-entropy); for a row without both scores the label says only whether the frontier
        answer is better. "contrastive": queries with equal labels move closer together than others,
        without a head (CoSENT, Huang et al. 2024, over all pairs of a batch); weights do not count.
    epochs : int
    batch_size : int
        Rows of a step, in each process.
    learning_rate : float
        Highest rate of the encoder, after a warm-up; it falls to 0 at the end.
    keep_layers : tuple of int, optional
        The transformer layers to keep, from 0; the others are dropped before training.
    patience : int
        Training ends after this number of checks without a lower loss; there are four checks an
        epoch.
    seed : int
    """

    objective: Objective = "need"
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    keep_layers: tuple[int, ...] | None = None
    patience: int = 3
    seed: int = 0


def routing_trainer(
    model: "SentenceTransformer",
    settings: FineTuneSettings,
    train: "datasets.Dataset",
    validation: "datasets.Dataset",
    folder: Path,
) -> "SentenceTransformerTrainer":
    """Return a trainer that changes a model in place.

    Parameters
    ----------
    model : SentenceTransformer
    settings : FineTuneSettings
    train, validation : datasets.Dataset
        Columns `query`, the token ids, and `label`, three floats: the label in [0, 1], the gain
        (NaN if unknown), and the weight.
    folder : Path
        Folder of the trainer's checkpoints.
    """
    from sentence_transformers.sentence_transformer.data_collator import (
        SentenceTransformerDataCollator,
    )
    from transformers import EarlyStoppingCallback, PrinterCallback

    trained = _with_head(model, settings)
    trainer = _trainer_class()(
        model=trained,
        args=_arguments(settings, folder, len(train), len(validation), head=len(trained) - 1),
        train_dataset=train,
        eval_dataset=validation,
        loss=_routing_loss(settings.objective, trained),
        data_collator=SentenceTransformerDataCollator(_padded),
        callbacks=[EarlyStoppingCallback(settings.patience)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _with_head(model: "SentenceTransformer", settings: FineTuneSettings) -> "SentenceTransformer":
    """Return a model that shares the weights and ends with the objective's head, if it has one."""
    # A head inside the model is part of checkpoints, and is synchronised between processes.
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense

    outputs = HEAD_OUTPUTS[settings.objective]
    if not outputs:
        return model
    dimension = model.get_embedding_dimension() or 0
    head = Dense(
        dimension,
        outputs,
        activation_function=torch.nn.Identity(),
        init_weight=torch.zeros(outputs, dimension),
        init_bias=torch.zeros(outputs),
        module_output_name="logits",
    )
    return SentenceTransformer(modules=[*model, head], device=str(model.device))


def _trainer_class() -> "type[SentenceTransformerTrainer]":
    from sentence_transformers import SentenceTransformerTrainer

    class CardlessTrainer(SentenceTransformerTrainer):
        """Writes no model card, as a card would quote queries of the log."""

        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """Add no callback, which would collect queries for a card."""

        def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
            del state_dict
            folder = output_dir or str(self.args.output_dir)
            self.model.save_pretrained(folder, create_model_card=False)

    return CardlessTrainer


def _arguments(
    settings: FineTuneSettings, folder: Path, rows: int, validation_rows: int, head: int
) -> Any:
    """Return the trainer's arguments; `head` is the index of the head's module, if there is one."""
    import torch
    from sentence_transformers import SentenceTransformerTrainingArguments

    has_head = HEAD_OUTPUTS[settings.objective] > 0
    between_checks = 1 / (_CHECKS_PER_EPOCH * settings.epochs)
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=_batch_size(settings, rows),
        per_device_eval_batch_size=_batch_size(settings, validation_rows),
        learning_rate=settings.learning_rate,
        learning_rate_mapping={rf"\.{head}\.linear\.": _HEAD_LEARNING_RATE} if has_head else {},
        warmup_steps=0.1,
        weight_decay=0.01,
        eval_strategy="steps",
        eval_steps=between_checks,
        save_strategy="steps",
        save_steps=between_checks,
        save_total_limit=2,
        logging_steps=between_checks,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        seed=settings.seed,
        data_seed=settings.seed,
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
        # Set explicitly: otherwise each process without a GPU would train on its own.
        use_cpu=not torch.accelerator.is_available(),
        dataloader_pin_memory=torch.accelerator.is_available(),
    )


def _batch_size(settings: FineTuneSettings, rows: int) -> int:
    """Return the number of rows of a batch, at most a process's share of the rows."""
    # Several processes drop an incomplete batch, so a larger one could leave none.
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return max(1, min(settings.batch_size, rows // processes))


def _padded(token_ids: list[list[int]], **_: object) -> _Features:
    """Return token ids padded with 0, as in the graph."""
    import torch

    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in token_ids], True)
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def _routing_loss(objective: Objective, model: "SentenceTransformer") -> "torch.nn.Module":
    """Return the loss of a model; it has no weights of its own.

    Its targets, of shape (n, 3), are the label, the gain (NaN if unknown), and the weight.
    """
    import torch

    loss_of = _LOSSES[objective]

    class RoutingLoss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, features: list[_Features], targets: torch.Tensor) -> torch.Tensor:
            loss = loss_of(self.model, features[0], targets)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss of the {objective} objective became {loss.item()}; lower the "
                    "learning rate, and look for extreme weights in the log"
                )
            return loss

    return RoutingLoss()


def _need_loss(
    model: "SentenceTransformer", features: _Features, targets: "torch.Tensor"
) -> "torch.Tensor":
    from torch.nn.functional import binary_cross_entropy_with_logits

    need, _, weight = targets.unbind(1)
    logits = model(features)["logits"].squeeze(1)
    return binary_cross_entropy_with_logits(logits, need, weight=weight)


def _gain_loss(
    model: "SentenceTransformer", features: _Features, targets: "torch.Tensor"
) -> "torch.Tensor":
    """Return the cross-entropy over cheap better, tie, frontier better."""
    import torch

    need, gain, weight = targets.unbind(1)
    log_p = model(features)["logits"].log_softmax(dim=1)
    outcome = gain.nan_to_num().sign().long() + 1
    of_three = log_p.gather(1, outcome.unsqueeze(1)).squeeze(1)
    # Without a gain, a row says only whether the frontier answer is better.
    of_two = need * log_p[:, 2] + (1 - need) * log_p[:, :2].logsumexp(dim=1)
    return -(weight * torch.where(gain.isnan(), of_two, of_three)).mean()


def _contrastive_loss(
    model: "SentenceTransformer", features: _Features, targets: "torch.Tensor"
) -> "torch.Tensor":
    """Return the CoSENT loss over all pairs of the batch; equal labels make a pair similar."""
    import torch
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    embeddings, need = model(features)["sentence_embedding"], targets[:, 0]
    one, other = torch.triu_indices(len(need), len(need), offset=1, device=need.device)
    similarity = 1 - (need[one] - need[other]).abs()
    pairs = [embeddings[one], embeddings[other]]
    loss: torch.Tensor = CoSENTLoss(model).compute_loss_from_embeddings(pairs, similarity)
    return loss


_Loss = Callable[["SentenceTransformer", _Features, "torch.Tensor"], "torch.Tensor"]
_LOSSES: dict[Objective, _Loss] = {
    "need": _need_loss,
    "gain": _gain_loss,
    "contrastive": _contrastive_loss,
}
