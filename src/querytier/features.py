"""The features of queries, offline: blocks that recipes choose among, kept between stages."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from querytier.classifier.encoder import Encoder, load_encoder
from querytier.classifier.features import Features
from querytier.classifier.surface import SurfaceTable, surface_table
from querytier.data.examples import Examples
from querytier.data.text_view import text_view
from querytier.training.baselines import Labelled
from querytier.training.recipes import Recipe

__all__ = ["SURFACE", "FeatureBlocks"]

MINILM, SURFACE = "minilm", "surface"
_TABLE = "surface.npz"


@dataclass(frozen=True, eq=False)
class FeatureBlocks:
    """Where blocks of features come from.

    Attributes
    ----------
    encoder : Encoder
    surface : SurfaceTable
        Standardised on training queries.
    """

    encoder: Encoder
    surface: SurfaceTable

    @classmethod
    def fitted_to(cls, examples: Examples) -> "FeatureBlocks":
        """Return blocks whose surface features are standardised on these examples."""
        encoder = load_encoder()
        token_ids = [encoder.tokenizer.token_ids(text_view(query)) for query in examples.query]
        return cls(encoder, surface_table(encoder.tokenizer.json).fitted_to(token_ids))

    @classmethod
    def read(cls, folder: Path) -> "FeatureBlocks":
        """Read what `write` wrote."""
        with np.load(folder / _TABLE) as arrays:
            return cls(load_encoder(), SurfaceTable.from_arrays(arrays))

    def write(self, folder: Path) -> None:
        """Write the surface table into an existing folder."""
        np.savez(folder / _TABLE, allow_pickle=False, **self.surface.record())

    def labelled(self, examples: Examples) -> Labelled:
        """Return examples with their blocks of features."""
        views = [text_view(query) for query in examples.query]
        token_ids = [self.encoder.tokenizer.token_ids(view) for view in views]
        return Labelled(
            examples,
            {MINILM: self.encoder.encode(views), SURFACE: self.surface.features(token_ids)},
        )

    def features(self, recipe: Recipe) -> Features:
        """Return what a recipe's heads read, for export."""
        return Features(self.encoder, self.surface if SURFACE in recipe.blocks else None)
