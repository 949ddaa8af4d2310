"""Blocks of features for queries: the recipes of training choose among them, export reads them."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.encoder import Encoder, load_encoder, open_encoder
from querytier.classifier.model.features import KINDS, Features
from querytier.classifier.model.nets import Linear
from querytier.classifier.model.surface import SurfaceTable, surface_table
from querytier.classifier.model.terms import TermTable
from querytier.data.examples import Examples
from querytier.files import write_json
from querytier.pipeline.params import TrainParams
from querytier.training.baselines import LabelledFeatures
from querytier.training.checkpoints import Checkpoints
from querytier.training.embedding_cache import EmbeddingCache
from querytier.training.encoders.fine_tuning import read_fine_tuned, write_fine_tuned
from querytier.training.encoders.out_of_fold import fine_tune_out_of_fold
from querytier.training.encoders.static import distil, read_static, write_static
from querytier.training.encoders.trainer import FineTuneSettings
from querytier.training.learners import BoostedTrees, LinearLearner, MemberLearner, MlpLearner
from querytier.training.recipes import Recipe, recipes_of

__all__ = ["FeatureBlocks", "principal_components"]

MINILM, MINILM3, STATIC, NAMED, TUNED = "minilm", "minilm3", "static", "named", "tuned"
_FASTEST_FIRST = (STATIC, MINILM3, MINILM, NAMED, TUNED)
_TUNED_LAYERS = 3
_TUNED_EPOCHS = 2
_MOST_COMPONENTS = 64


@dataclass(frozen=True, eq=False)
class FeatureBlocks:
    """The encoders of a run, and the features of each.

    Attributes
    ----------
    features : mapping of str to Features
        Keyed by the name of the encoder; MiniLM, whose embeddings kNN compares, comes first.
    named : str or None
        Name or path of the encoder "named".
    out_of_fold : mapping of str to ndarray of float32
        Keyed by the id of a training row: outputs of an encoder fine-tuned without that row's fold.
    """

    features: Mapping[str, Features]
    named: str | None = None
    out_of_fold: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def fitted_to(cls, examples: Examples, section: TrainParams) -> "FeatureBlocks":
        """Return the encoders that the budget allows, fitted to examples without their labels.

        The encoders are MiniLM, its first three layers, the encoder that the parameters name, and
        for the budgets "standard" and "thorough" a static encoder distilled on the text views. The
        scale of surface features, the terms and the principal components are fitted.
        """
        views = examples.views()
        encoders = {MINILM: load_encoder(), MINILM3: load_encoder(layers=3)}
        if section.encoder is not None:
            encoders[NAMED] = open_encoder(section.encoder)
        # Distilling the static encoder takes minutes, most of them for encoding words. It decides a
        # hundred times as fast as MiniLM (0.125 against 16.4 ms on MMLU).
        if section.budget != "quick":
            teacher = open_encoder(section.teacher) if section.teacher else encoders[MINILM]
            embeddings = EmbeddingCache().encode(teacher, views)
            encoders[STATIC] = distil(teacher, views, seed=section.seed, embeddings=embeddings)
        features = {name: _fitted(name, encoder, views) for name, encoder in encoders.items()}
        return cls(features, section.encoder)

    def with_tuned(
        self, train: Examples, section: TrainParams, checkpoints: Checkpoints, trainer_folder: Path
    ) -> "FeatureBlocks":
        """Return these encoders and one that is fine-tuned on the labels of `train`.

        It starts from the first three layers of MiniLM, or from the encoder that the parameters
        name.

        Parameters
        ----------
        train : Examples
            The training split.
        section : TrainParams
        checkpoints : Checkpoints
        trainer_folder : Path
            Folder for the state of each fine-tuning.
        """
        named = section.encoder is not None
        base = self.features[NAMED if named else MINILM].encoder
        layers = None if named else tuple(range(_TUNED_LAYERS))
        settings = FineTuneSettings(epochs=_TUNED_EPOCHS, keep_layers=layers, seed=section.seed)
        tuned = fine_tune_out_of_fold(
            base,
            train,
            settings,
            folds=section.folds,
            checkpoints=checkpoints,
            trainer_folder=trainer_folder,
        )
        views = train.views()
        features = replace(_fitted(TUNED, tuned.encoder, views), outputs=tuned.outputs)
        return replace(
            self, features={**self.features, TUNED: features}, out_of_fold=tuned.out_of_fold
        )

    @classmethod
    def read(cls, folder: Path) -> "FeatureBlocks":
        """Read what `write` wrote."""
        record = json.loads((folder / "encoders.json").read_text())
        opened: dict[str, Callable[[], Encoder]] = {
            MINILM: load_encoder,
            MINILM3: partial(load_encoder, layers=3),
            STATIC: partial(read_static, folder / STATIC),
            NAMED: partial(open_encoder, record["named"]),
            TUNED: partial(read_fine_tuned, folder / TUNED),
        }
        features = {name: _read(folder, name, opened[name]()) for name in record["encoders"]}
        return cls(features, record["named"])

    def write(self, folder: Path) -> None:
        """Write all tables, and the encoders that this run has made, into an existing folder."""
        for name, one in self.features.items():
            for kind, arrays in one.tables().items():
                np.savez(folder / f"{name}-{kind}.npz", allow_pickle=False, **arrays)
        if STATIC in self.features:
            write_static(self.features[STATIC].encoder, folder / STATIC)
        if TUNED in self.features:
            write_fine_tuned(self.features[TUNED].encoder, folder / TUNED)
        write_json(folder / "encoders.json", {"encoders": list(self.features), "named": self.named})

    def labelled(self, examples: Examples) -> LabelledFeatures:
        """Return examples with their blocks of features; embeddings are cached between runs."""
        views = examples.views()
        blocks: dict[str, Any] = {}
        for one in self.features.values():
            blocks |= one.from_embeddings(EmbeddingCache().encode(one.encoder, views), views)
        if self.out_of_fold:
            # A fine-tuned encoder has memorised the labels of its training rows. A head fitted to
            # such outputs would trust them too much.
            outputs = blocks[f"{TUNED}-outputs"]
            for row, name in enumerate(examples.id):
                outputs[row] = self.out_of_fold.get(name, outputs[row])
        return LabelledFeatures(examples, blocks)

    def recipes(self, examples: Examples, section: TrainParams) -> list[Recipe]:
        """Return the recipes of one learner, the fastest encoder in a request's path first."""
        # Training chooses the first recipe within one standard error of the best, so this order
        # decides between equals.
        names = [name for name in _FASTEST_FIRST if name in self.features]
        learners = [learner for name in names for learner in _learners(name, section)]
        return recipes_of(examples, learners)

    @property
    def weights(self) -> dict[str, str]:
        """The sha256 of each encoder's weights."""
        return {name: one.encoder.weights_sha256 for name, one in self.features.items()}

    def encoder_ms(self, views: Sequence[str]) -> dict[str, float]:
        """Return the median milliseconds that each encoder takes for a query, before export."""
        return {name: _milliseconds(one.encoder, views) for name, one in self.features.items()}

    def of(self, recipe: Recipe) -> Features:
        """Return the features that a recipe's heads read, for export."""
        return self.features[recipe.encoder].only(recipe.blocks)


def _learners(encoder: str, section: TrainParams) -> list[MemberLearner]:
    """Return the learners on an encoder's blocks, the strongest regularisation first."""
    surface, terms = f"{encoder}-surface", f"{encoder}-terms"
    # A fine-tuned encoder has only its outputs out of fold; its embeddings know the labels.
    embedding, for_trees = encoder, f"{encoder}-components"
    if encoder == TUNED:
        embedding = for_trees = f"{encoder}-outputs"
    # scikit-learn's C is the inverse of the strength.
    strongest_first = sorted(section.regularisation)
    blocks = [(embedding,), (embedding, surface)]
    learners: list[MemberLearner] = [
        LinearLearner(one, c) for one in blocks for c in strongest_first
    ]
    if encoder == MINILM:
        # The other blocks come from MINILM3, which reads the same tokens in half the time.
        return learners[: len(strongest_first)]
    # Terms are word pieces, not words: APGR 0.684 instead of 0.690 on MMLU, but a router in any
    # programming language then needs only the tokenizer.
    learners.append(LinearLearner((terms,), section.terms_regularisation))
    learners.append(BoostedTrees((for_trees, surface)))
    if section.budget == "thorough":
        learners.append(MlpLearner((for_trees, surface)))
    return learners


def _milliseconds(encoder: Encoder, views: Sequence[str]) -> float:
    seconds = []
    for view in views:
        started = time.perf_counter()
        encoder.encode([view])
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


def principal_components(embeddings: NDArray[np.float32], most: int = _MOST_COMPONENTS) -> Linear:
    """Return the layer that projects embeddings on their first principal components.

    Boosted trees split on one coordinate at a time, so a few uncorrelated coordinates work better
    than hundreds of correlated ones.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (n, d)
        n > 1.
    most : int
        Largest number of components; there are never more than rows or dimensions.
    """
    from sklearn.decomposition import PCA

    count = min(most, *embeddings.shape)
    # This solver is exact and has no random start, so a run can be repeated.
    model: Any = PCA(count, svd_solver="covariance_eigh").fit(embeddings.astype(np.float64))
    return Linear(model.components_, -model.components_ @ model.mean_)


def _fitted(name: str, encoder: Encoder, views: Sequence[str]) -> Features:
    if name == MINILM:  # its other blocks come from MINILM3
        return Features(name, encoder)
    token_ids = [encoder.tokenizer.token_ids(view) for view in views]
    return Features(
        name,
        encoder,
        surface_table(encoder.tokenizer.json).fitted_to(token_ids),
        principal_components(EmbeddingCache().encode(encoder, views)),
        TermTable.fitted_to(token_ids),
    )


def _read(folder: Path, name: str, encoder: Encoder) -> Features:
    def arrays(kind: str) -> dict[str, Any] | None:
        path = folder / f"{name}-{kind}.npz"
        if not path.is_file():
            return None
        with np.load(path) as kept:
            return dict(kept)

    surface, components, terms, outputs = map(arrays, KINDS)
    return Features(
        name,
        encoder,
        None if surface is None else SurfaceTable.from_arrays(surface),
        None if components is None else Linear(**components),
        None if terms is None else TermTable(**terms),
        None if outputs is None else Linear(**outputs),
    )
