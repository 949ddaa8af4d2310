"""The features of queries, offline: blocks that recipes choose among, kept between stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from querytier.classifier.encoder import Encoder, load_encoder
from querytier.classifier.features import Features
from querytier.classifier.surface import SurfaceTable, surface_table
from querytier.data.examples import Examples
from querytier.data.text_view import text_view
from querytier.params import Budget, TrainParams
from querytier.training.baselines import Labelled
from querytier.training.embedding_cache import EmbeddingCache
from querytier.training.recipes import Recipe, recipes_for
from querytier.training.static_encoder import distil, read_static, write_static

__all__ = ["FeatureBlocks"]

MINILM, MINILM3, STATIC = "minilm", "minilm3", "static"
_FASTEST_FIRST = (STATIC, MINILM3, MINILM)


@dataclass(frozen=True, eq=False)
class FeatureBlocks:
    """Where blocks of features come from.

    Attributes
    ----------
    features : mapping of str to Features
        By the name of the encoder: MiniLM, whose embeddings kNN compares, comes first.
    """

    features: Mapping[str, Features]

    @classmethod
    def fitted_to(cls, examples: Examples, budget: Budget, seed: int) -> "FeatureBlocks":
        """Return the encoders that a budget allows; no label of these examples is looked at.

        Surface features are standardised on them. From the budget "standard" on there are also the
        first three layers of MiniLM, and a static encoder distilled from all of it on their views.
        """
        views = [text_view(query) for query in examples.query]
        encoders = {MINILM: load_encoder()}
        if budget != "quick":
            embeddings = EmbeddingCache().encode(encoders[MINILM], views)
            encoders[MINILM3] = load_encoder(layers=3)
            encoders[STATIC] = distil(encoders[MINILM], views, seed=seed, embeddings=embeddings)
        return cls({name: _with_surface(encoder, views) for name, encoder in encoders.items()})

    @classmethod
    def read(cls, folder: Path) -> "FeatureBlocks":
        """Read what `write` wrote."""
        encoders = {MINILM: load_encoder()}
        if (folder / STATIC).is_dir():
            encoders[MINILM3] = load_encoder(layers=3)
            encoders[STATIC] = read_static(folder / STATIC)
        return cls({name: Features(it, _table(folder, name)) for name, it in encoders.items()})

    def write(self, folder: Path) -> None:
        """Write surface tables, and the static encoder, into an existing folder."""
        for name, features in self.features.items():
            assert features.surface is not None
            np.savez(_table_path(folder, name), allow_pickle=False, **features.surface.record())
        if STATIC in self.features:
            write_static(self.features[STATIC].encoder, folder / STATIC)

    def labelled(self, examples: Examples) -> Labelled:
        """Return examples with their blocks of features; embeddings are kept between runs."""
        views = [text_view(query) for query in examples.query]
        blocks = {}
        for name, features in self.features.items():
            token_ids = [features.encoder.tokenizer.token_ids(view) for view in views]
            assert features.surface is not None
            blocks[name] = EmbeddingCache().encode(features.encoder, views)
            blocks[_surface_of(name)] = features.surface.features(token_ids)
        return Labelled(examples, blocks)

    def choices(self) -> list[tuple[str, ...]]:
        """Return the blocks that recipes may take: the fastest in the path of a request first."""
        names = [name for name in _FASTEST_FIRST if name in self.features]
        return [blocks for name in names for blocks in ((name,), (name, _surface_of(name)))]

    def recipes(self, examples: Examples, section: TrainParams) -> list[Recipe]:
        """Return the recipes that examples of the training role allow, as `recipes_for`."""
        return recipes_for(examples, self.choices(), section.regularisation)

    def of(self, recipe: Recipe) -> Features:
        """Return what a recipe's heads read, for export."""
        encoder, *others = recipe.blocks
        features = self.features[encoder]
        return features if others else Features(features.encoder)


def _with_surface(encoder: Encoder, views: list[str]) -> Features:
    token_ids = [encoder.tokenizer.token_ids(view) for view in views]
    return Features(encoder, surface_table(encoder.tokenizer.json).fitted_to(token_ids))


def _surface_of(name: str) -> str:
    return f"{name}-surface"


def _table_path(folder: Path, name: str) -> Path:
    return folder / f"{_surface_of(name)}.npz"


def _table(folder: Path, name: str) -> SurfaceTable:
    with np.load(_table_path(folder, name)) as arrays:
        return SurfaceTable.from_arrays(arrays)
