"""Fine-tuning: the encoder learns from the labels too, through sentence-transformers' trainer."""

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from querytier.classifier.model.encoder import Encoder, open_encoder, weights_sha256
from querytier.classifier.tokens import ViewTokenizer
from querytier.data.examples import Examples
from querytier.errors import MissingExtraError, TrainingError, UsageError
from querytier.files import atomic_file, atomic_folder
from querytier.training.baselines import group_folds
from querytier.training.encoders.trainer import (
    HEAD_OUTPUTS,
    Objective,
    TrainerSettings,
    routing_trainer,
)
from querytier.training.linear_models import check_both_classes

if TYPE_CHECKING:
    import datasets
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

__all__ = ["FEWEST_ROWS_TO_FINE_TUNE", "fine_tuned", "read_fine_tuned", "write_fine_tuned"]

FEWEST_ROWS_TO_FINE_TUNE = 50
_VALIDATION_PARTS = 10
_RECORD = "fine_tuned.json"


def fine_tuned(
    encoder: Encoder,
    examples: Examples,
    *,
    objective: Objective = "need",
    epochs: int = 3,
    batch_size: int = 32,
    learning_rate: float = 5e-5,
    keep_layers: Sequence[int] | None = None,
    patience: int = 3,
    seed: int = 0,
    checkpoint: Path | None = None,
) -> Encoder:
    """Return an encoder whose embeddings have learnt the labels; the one given stays as it is.

    It reads the same token ids in training as in serving, and trains on the GPU where there is one;
    what is returned is on the CPU. A tenth of the training split's groups validates: training ends
    early where their loss no longer falls, and the best weights are kept.
    On the CPU the same seed gives the same weights.

    Parameters
    ----------
    encoder : Encoder
    examples : Examples
        Labelled rows of the training split; others are not looked at.
    objective : {"need", "gain", "contrastive"}
        What is learnt. "need": a linear head predicts `needs_frontier` (cross-entropy, weighted).
        "gain": it predicts which of the two scores is higher, or a tie (cross-entropy, weighted);
        a row without both scores tells by its label only whether the frontier answer is better.
        "contrastive": queries of like labels come to lie closer than others, without a head
        (CoSENT, Huang et al. 2024, over all pairs of a batch); weights do not count.
    epochs : int
    batch_size : int
        Rows of a step, in each process.
    learning_rate : float
        Highest rate of the encoder, after a warm-up; it falls to 0 at the end.
    keep_layers : sequence of int, optional
        The transformer layers that stay, from 0, dropped before training; all by default.
    patience : int
        Training ends after so many checks without a better loss, four checks an epoch.
    seed : int
    checkpoint : Path, optional
        Folder that keeps the state of training: called again, an interrupted run goes on from
        there. Under torchrun or accelerate every process must name the same one.

    Raises
    ------
    TrainingError
        If the encoder is no sentence-transformers model, the rows are too few or of one class, the
        loss is not finite, or the checkpoint is that of another run.
    UsageError
        If a parameter is out of range.
    MissingExtraError
    """
    _check_installed()
    layers = None if keep_layers is None else tuple(keep_layers)
    settings = TrainerSettings(objective, epochs, batch_size, learning_rate, layers, patience, seed)
    _check(settings)
    rows = _training_rows(examples)
    model = copy.deepcopy(_sentence_transformer(encoder))
    if layers is not None:
        _keep_layers(model, layers)
    with _run_folder(checkpoint) as folder:
        _claim(folder, settings, encoder, rows)
        _train(model, rows, encoder.tokenizer, settings, folder)
    model.to("cpu").eval()
    name = f"{encoder.name}-fine-tuned-{objective}"
    return replace(encoder, name=name, weights_sha256=weights_sha256(model), model=model)


def write_fine_tuned(encoder: Encoder, folder: Path) -> None:
    """Write an encoder as sentence-transformers does (safetensors), complete or not at all."""
    with atomic_folder(folder) as new:
        _sentence_transformer(encoder).save_pretrained(str(new), create_model_card=False)
        record = json.dumps(_identity(encoder), indent=2)
        (new / _RECORD).write_text(record + "\n", "utf-8")


def read_fine_tuned(folder: Path) -> Encoder:
    """Read what `write_fine_tuned` wrote.

    Raises
    ------
    TrainingError
        If the folder holds no such encoder, or another than was written.
    MissingExtraError
    """
    try:
        record = json.loads((folder / _RECORD).read_text("utf-8"))
        name, max_tokens = record["encoder"], record["max_tokens"]
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{folder} holds no fine-tuned encoder ({error}); fine-tune one, or name the folder of "
            "one"
        ) from error
    encoder = replace(open_encoder(str(folder)), name=name, max_tokens=max_tokens)
    changes = _changes(record, _identity(encoder))
    if changes:
        raise TrainingError(
            f"the encoder in {folder} was changed since it was written, by its {changes}; "
            "fine-tune again"
        )
    return encoder


def _sentence_transformer(encoder: Encoder) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer

    if not isinstance(encoder.model, SentenceTransformer):
        raise TrainingError(
            f"{encoder.name} is no sentence-transformers model, so it is not fine-tuned; fine-tune "
            "an encoder such as the one it was distilled from, and distil that"
        )
    return encoder.model


def _check_installed() -> None:
    for package in ("accelerate", "datasets", "sentence_transformers"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "train")


def _check(settings: TrainerSettings) -> None:
    if settings.objective not in HEAD_OUTPUTS:
        known = ", ".join(HEAD_OUTPUTS)
        raise UsageError(f"objective is {settings.objective!r}; it is one of {known}")
    for name in ("epochs", "batch_size", "learning_rate", "patience"):
        if not getattr(settings, name) > 0:
            raise UsageError(f"{name} is {getattr(settings, name)}; it must be above 0")


def _training_rows(examples: Examples) -> Examples:
    rows = examples.of_split("train")
    rows = rows.where(rows.labelled)
    if len(rows) < FEWEST_ROWS_TO_FINE_TUNE:
        raise TrainingError(
            f"{len(rows)} labelled rows of the train split cannot fine-tune an encoder; add rows "
            f"(at least {FEWEST_ROWS_TO_FINE_TUNE}, better thousands), or keep it frozen"
        )
    check_both_classes(rows.needs_frontier, "train")
    return rows


def _keep_layers(model: "SentenceTransformer", kept: tuple[int, ...]) -> None:
    """Drop all other layers of the transformer, in place."""
    from torch.nn import ModuleList

    transformer = model.transformers_model
    count = 0 if transformer is None else transformer.config.num_hidden_layers
    if transformer is None or not kept or list(kept) != sorted(set(kept) & set(range(count))):
        raise UsageError(
            f"keep_layers is {list(kept)}; it names layers of the encoder's {count}, counted "
            "from 0, in their order"
        )
    for parent in list(transformer.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ModuleList) and len(child) == count:
                setattr(parent, name, ModuleList(child[layer] for layer in kept))
    config = transformer.config
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in kept]


@contextmanager
def _run_folder(checkpoint: Path | None) -> Iterator[Path]:
    if checkpoint is not None:
        checkpoint.mkdir(parents=True, exist_ok=True)
        yield checkpoint
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes train one encoder: name a checkpoint folder they share")
    else:
        with tempfile.TemporaryDirectory(prefix="querytier-fine-tuning-") as folder:
            yield Path(folder)


def _claim(folder: Path, settings: TrainerSettings, encoder: Encoder, rows: Examples) -> None:
    """Note what is trained in a folder; refuse to go on with anything else."""
    run = json.loads(json.dumps(asdict(settings) | _identity(encoder)))
    run["examples"] = rows.fingerprint()
    path = folder / "run.json"
    if not path.is_file():
        if os.environ.get("RANK", "0") == "0":
            with atomic_file(path) as new:
                new.write_text(json.dumps(run, indent=2) + "\n", "utf-8")
        return
    changes = _changes(json.loads(path.read_text("utf-8")), run)
    if changes:
        raise TrainingError(
            f"the checkpoint {folder} is that of another run, with {changes}; name another folder"
        )


def _identity(encoder: Encoder) -> dict[str, Any]:
    """Return what tells an encoder from others."""
    return {
        "encoder": encoder.name,
        "weights_sha256": encoder.weights_sha256,
        "tokenizer_sha256": hashlib.sha256(encoder.tokenizer_json.encode()).hexdigest(),
        "max_tokens": encoder.max_tokens,
    }


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [name for name in now if before.get(name) != now[name]]
    return ", ".join(f"{name} {before.get(name)} (now {now[name]})" for name in changed)


def _train(
    model: "SentenceTransformer",
    rows: Examples,
    tokenizer: ViewTokenizer,
    settings: TrainerSettings,
    folder: Path,
) -> None:
    """Train a model in place."""
    validating = _validation_rows(rows, settings.seed)
    trainer = routing_trainer(
        model,
        settings,
        _dataset(rows.where(~validating), tokenizer),
        _dataset(rows.where(validating), tokenizer),
        folder,
    )
    trainer.train(resume_from_checkpoint=_last_checkpoint(folder))


def _validation_rows(rows: Examples, seed: int) -> "NDArray[np.bool_]":
    groups = len(set(rows.group.tolist()))
    if groups < 2:
        raise TrainingError(
            f"all {len(rows)} rows of the train split are one group, so none can validate; map a "
            "finer group"
        )
    return group_folds(rows, min(_VALIDATION_PARTS, groups), seed)[0]


def _dataset(rows: Examples, tokenizer: ViewTokenizer) -> "datasets.Dataset":
    """Return token ids, and as targets the label, the gain and the weight (of mean 1)."""
    import datasets

    gain = rows.frontier_score - rows.cheap_score
    targets = np.stack([rows.needs_frontier, gain, rows.weight / rows.weight.mean()], axis=1)
    token_ids = [tokenizer.token_ids(view) for view in rows.views()]
    return datasets.Dataset.from_dict({"query": token_ids, "label": targets.astype(np.float32)})


def _last_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint that is complete: its state is written last."""
    complete = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    if not complete:
        return None
    return str(max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-"))))
