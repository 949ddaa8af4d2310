"""Fine-tuning: the encoder learns from the labels too, with the sentence-transformers trainer."""

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
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
from querytier.files import atomic_folder, write_json
from querytier.training.encoders.trainer import HEAD_OUTPUTS, FineTuneSettings, routing_trainer
from querytier.training.folds import group_folds
from querytier.training.linear_models import check_both_classes

if TYPE_CHECKING:
    import datasets
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

__all__ = ["FEWEST_ROWS_TO_FINE_TUNE", "fine_tune", "read_fine_tuned", "write_fine_tuned"]

FEWEST_ROWS_TO_FINE_TUNE = 50
_VALIDATION_PARTS = 10
_RECORD = "fine_tuned.json"


def fine_tune(
    encoder: Encoder,
    examples: Examples,
    settings: FineTuneSettings,
    *,
    checkpoint: Path | None = None,
) -> Encoder:
    """Return a copy of an encoder whose embeddings have learnt the labels.

    A tenth of the training split's groups is held out for validation: training ends early when the
    loss on them no longer falls, and the best weights are kept. Training uses the GPU if there is
    one; the returned encoder is on the CPU. On the CPU the same seed gives the same weights.

    Parameters
    ----------
    encoder : Encoder
    examples : Examples
        Labelled rows of the training split; other rows are ignored.
    settings : FineTuneSettings
    checkpoint : Path, optional
        Folder for the state of training, from which an interrupted run resumes. Under torchrun or
        accelerate, every process must name the same folder.

    Raises
    ------
    TrainingError
        If the encoder is not a sentence-transformers model, the rows are too few or of one class,
        the loss is not finite, or the checkpoint belongs to another run.
    UsageError
        If a setting is out of range.
    MissingExtraError
    """
    _check_installed()
    _check(settings)
    rows = _training_rows(examples)
    model = copy.deepcopy(_sentence_transformer(encoder))
    if settings.keep_layers is not None:
        _keep_layers(model, settings.keep_layers)
    with _run_folder(checkpoint) as folder:
        _check_same_run(folder, settings, encoder, rows)
        validation = _validation_rows(rows, settings.seed)
        trainer = routing_trainer(
            model,
            settings,
            _dataset(rows.where(~validation), encoder.tokenizer),
            _dataset(rows.where(validation), encoder.tokenizer),
            folder,
        )
        trainer.train(resume_from_checkpoint=_last_checkpoint(folder))
    model.to("cpu").eval()
    name = f"{encoder.name}-fine-tuned-{settings.objective}"
    return replace(encoder, name=name, weights_sha256=weights_sha256(model), model=model)


def write_fine_tuned(encoder: Encoder, folder: Path) -> None:
    """Write an encoder in the format of sentence-transformers, complete or not at all."""
    with atomic_folder(folder) as new:
        _sentence_transformer(encoder).save_pretrained(str(new), create_model_card=False)
        write_json(new / _RECORD, _identity(encoder))


def read_fine_tuned(folder: Path) -> Encoder:
    """Return the encoder that `write_fine_tuned` wrote.

    Raises
    ------
    TrainingError
        If the folder holds no such encoder, or the encoder has changed.
    MissingExtraError
    """
    try:
        record = json.loads((folder / _RECORD).read_text("utf-8"))
        name, max_tokens = record["encoder"], record["max_tokens"]
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{folder} holds no fine-tuned encoder ({error}); fine-tune one, or name another folder"
        ) from error
    encoder = replace(open_encoder(str(folder)), name=name, max_tokens=max_tokens)
    changes = _changes(record, _identity(encoder))
    if changes:
        raise TrainingError(
            f"the encoder in {folder} has changed since it was written: {changes}; fine-tune again"
        )
    return encoder


def _sentence_transformer(encoder: Encoder) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer

    if not isinstance(encoder.model, SentenceTransformer):
        raise TrainingError(
            f"{encoder.name} is not a sentence-transformers model, so it cannot be fine-tuned; "
            "fine-tune an encoder such as its teacher, and distil that"
        )
    return encoder.model


def _check_installed() -> None:
    for package in ("accelerate", "datasets", "sentence_transformers"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "train")


def _check(settings: FineTuneSettings) -> None:
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
            f"{len(rows)} labelled rows of the train split are too few to fine-tune on; add rows "
            f"(at least {FEWEST_ROWS_TO_FINE_TUNE}, better thousands), or use the encoder unchanged"
        )
    check_both_classes(rows.needs_frontier, "train")
    return rows


def _keep_layers(model: "SentenceTransformer", layers: tuple[int, ...]) -> None:
    """Drop all other layers of the transformer, in place."""
    from torch.nn import ModuleList

    transformer = model.transformers_model
    count = 0 if transformer is None else transformer.config.num_hidden_layers
    if transformer is None or not layers or list(layers) != sorted(set(layers) & {*range(count)}):
        raise UsageError(
            f"keep_layers is {list(layers)}; name layers of the encoder's {count}, from 0, in "
            "ascending order"
        )
    # Architectures name their list of layers differently; it is found by its length.
    for parent in list(transformer.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ModuleList) and len(child) == count:
                setattr(parent, name, ModuleList(child[layer] for layer in layers))
    config = transformer.config
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in layers]


@contextmanager
def _run_folder(checkpoint: Path | None) -> Iterator[Path]:
    if checkpoint is not None:
        checkpoint.mkdir(parents=True, exist_ok=True)
        yield checkpoint
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes train one encoder; name a shared checkpoint folder")
    else:
        with tempfile.TemporaryDirectory(prefix="querytier-fine-tuning-") as folder:
            yield Path(folder)


def _check_same_run(
    folder: Path, settings: FineTuneSettings, encoder: Encoder, rows: Examples
) -> None:
    """Record which run uses a folder; raise TrainingError if it is another one."""
    run = json.loads(json.dumps(asdict(settings) | _identity(encoder)))
    run["examples"] = rows.fingerprint()
    path = folder / "run.json"
    if not path.is_file():
        if os.environ.get("RANK", "0") == "0":
            write_json(path, run)
        return
    changes = _changes(json.loads(path.read_text("utf-8")), run)
    if changes:
        raise TrainingError(
            f"the checkpoint {folder} belongs to another run, with {changes}; name another folder"
        )


def _identity(encoder: Encoder) -> dict[str, Any]:
    """Return what distinguishes an encoder from others."""
    return {
        "encoder": encoder.name,
        "weights_sha256": encoder.weights_sha256,
        "tokenizer_sha256": hashlib.sha256(encoder.tokenizer_json.encode()).hexdigest(),
        "max_tokens": encoder.max_tokens,
    }


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [name for name in now if before.get(name) != now[name]]
    return ", ".join(f"{name} {before.get(name)} (now {now[name]})" for name in changed)


def _validation_rows(rows: Examples, seed: int) -> "NDArray[np.bool_]":
    groups = len(set(rows.group.tolist()))
    if groups < 2:
        raise TrainingError(
            f"all {len(rows)} rows of the train split are one group, so none can be "
            "held out for validation; map a finer group"
        )
    return group_folds(rows, min(_VALIDATION_PARTS, groups), seed)[0]


def _dataset(rows: Examples, tokenizer: ViewTokenizer) -> "datasets.Dataset":
    """Return token ids, and as targets the label, the gain and the weight (of mean 1)."""
    import datasets

    gain = rows.frontier_score - rows.cheap_score
    targets = np.stack([rows.needs_frontier, gain, rows.weight / rows.weight.mean()], axis=1)
    # Token ids as in serving: sentence-transformers would cut off the end of a long query, which
    # often holds the request.
    token_ids = [tokenizer.token_ids(view) for view in rows.views()]
    return datasets.Dataset.from_dict({"query": token_ids, "label": targets.astype(np.float32)})


def _last_checkpoint(folder: Path) -> str | None:
    """Return the latest complete checkpoint."""
    # The trainer writes this file last.
    complete = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    if not complete:
        return None
    return str(max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-"))))
