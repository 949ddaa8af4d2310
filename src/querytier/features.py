"""The features of queries, offline: blocks that recipes choose among, kept between stages."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from querytier.classifier.encoder import Encoder, load_encoder
from querytier.classifier.features import Features
from querytier.classifier.nets import Linear
from querytier.classifier.surface import SurfaceTable, surface_table
from querytier.classifier.terms import TermTable
from querytier.data.examples import Examples
from querytier.data.text_view import text_view
from querytier.params import Budget, TrainParams
from querytier.training.baselines import Labelled
from querytier.training.embedding_cache import EmbeddingCache
from querytier.training.learners import BoostedTrees, LinearLearner, MemberLearner
from querytier.training.principal_components import principal_components
from querytier.training.recipes import Recipe, recipes_of
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

        Surface features are standardised on them, terms are theirs, and so are the principal
        components. There are MiniLM and its first three layers; from the budget "standard" on also
        a static encoder distilled from all of it on their views.
        """
        views = [text_view(query) for query in examples.query]
        encoders = {MINILM: load_encoder(), MINILM3: load_encoder(layers=3)}
        if budget != "quick":
            embeddings = EmbeddingCache().encode(encoders[MINILM], views)
            encoders[STATIC] = distil(encoders[MINILM], views, seed=seed, embeddings=embeddings)
        return cls({name: _fitted(name, encoder, views) for name, encoder in encoders.items()})

    @classmethod
    def read(cls, folder: Path) -> "FeatureBlocks":
        """Read what `write` wrote."""
        encoders = {MINILM: load_encoder(), MINILM3: load_encoder(layers=3)}
        if (folder / STATIC).is_dir():
            encoders[STATIC] = read_static(folder / STATIC)
        return cls({name: _read(folder, name, encoder) for name, encoder in encoders.items()})

    def write(self, folder: Path) -> None:
        """Write all tables, and the static encoder, into an existing folder."""
        for name, one in self.features.items():
            assert one.surface is not None
            assert one.components is not None
            assert one.terms is not None
            for kind, arrays in (
                ("surface", one.surface.record()),
                ("components", one.components.arrays()),
                ("terms", one.terms.record()),
            ):
                np.savez(folder / f"{name}-{kind}.npz", allow_pickle=False, **arrays)
        if STATIC in self.features:
            write_static(self.features[STATIC].encoder, folder / STATIC)

    def labelled(self, examples: Examples) -> Labelled:
        """Return examples with their blocks of features; embeddings are kept between runs."""
        views = [text_view(query) for query in examples.query]
        blocks: dict[str, Any] = {}
        for one in self.features.values():
            blocks |= one.beside(EmbeddingCache().encode(one.encoder, views), views)
        return Labelled(examples, blocks)

    def recipes(self, examples: Examples, section: TrainParams) -> list[Recipe]:
        """Return the recipes of one learner: the fastest in the path of a request first."""
        names = [name for name in _FASTEST_FIRST if name in self.features]
        learners = [learner for name in names for learner in _learners(name, section)]
        return recipes_of(examples, learners)

    def encoder_ms(self, views: Sequence[str]) -> dict[str, float]:
        """Return the milliseconds that each encoder takes for a query, before export: medians."""
        return {name: _milliseconds(one.encoder, views) for name, one in self.features.items()}

    def of(self, recipe: Recipe) -> Features:
        """Return what a recipe's heads read, for export."""
        return self.features[recipe.encoder].only(recipe.blocks)


def _learners(encoder: str, section: TrainParams) -> list[MemberLearner]:
    """Return the learners of an encoder: the stronger regularisation first."""
    surface, components = f"{encoder}-surface", f"{encoder}-components"
    strongest_first = sorted(section.regularisation)
    linear = [(encoder,)] if encoder == MINILM else [(encoder,), (encoder, surface)]
    learners: list[MemberLearner] = [
        LinearLearner(blocks, c) for blocks in linear for c in strongest_first
    ]
    if encoder != MINILM:
        learners.append(LinearLearner((f"{encoder}-terms",), section.terms_regularisation))
    if encoder != MINILM and section.budget != "quick":
        learners.append(BoostedTrees((components, surface)))
    return learners


def _milliseconds(encoder: Encoder, views: Sequence[str]) -> float:
    seconds = []
    for view in views:
        started = time.perf_counter()
        encoder.encode([view], progress=False)
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


def _fitted(name: str, encoder: Encoder, views: Sequence[str]) -> Features:
    token_ids = [encoder.tokenizer.token_ids(view) for view in views]
    return Features(
        name,
        encoder,
        surface_table(encoder.tokenizer.json).fitted_to(token_ids),
        principal_components(EmbeddingCache().encode(encoder, views)),
        TermTable.fitted_to(token_ids),
    )


def _read(folder: Path, name: str, encoder: Encoder) -> Features:
    def arrays(kind: str) -> dict[str, Any]:
        with np.load(folder / f"{name}-{kind}.npz") as kept:
            return dict(kept)

    return Features(
        name,
        encoder,
        SurfaceTable.from_arrays(arrays("surface")),
        Linear(**arrays("components")),
        TermTable.from_arrays(arrays("terms")),
    )
