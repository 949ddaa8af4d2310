"""The features of a query: blocks of them, each of which a graph computes of the token ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from querytier.classifier.model.encoder import Encoder
from querytier.classifier.model.nets import Linear
from querytier.classifier.model.surface import SurfaceTable
from querytier.classifier.model.terms import TermTable

__all__ = ["KINDS", "Features"]

# The blocks beside the embedding.
KINDS = ("surface", "components", "terms", "outputs")


@dataclass(frozen=True, eq=False)
class Features:
    """What the heads read; fitted to training queries, but to no label.

    Attributes
    ----------
    name : str
        What the blocks are named after: the sentence embedding has this name alone, the others
        `NAME-surface`, `NAME-components`, `NAME-terms` and `NAME-outputs`.
    encoder : Encoder
    surface : SurfaceTable or None
    components : Linear or None
        The embedding's principal components.
    terms : TermTable or None
    outputs : Linear or None
        What a fine-tuned encoder learnt to say. None leaves a block out.
    """

    name: str
    encoder: Encoder
    surface: SurfaceTable | None = None
    components: Linear | None = None
    terms: TermTable | None = None
    outputs: Linear | None = None

    def of(self, views: Sequence[str], *, progress: bool = True) -> dict[str, Any]:
        """Return the blocks of n text views, float32 of shape (n, dimension) each, by name."""
        return self.beside(self.encoder.encode(views, progress=progress), views)

    def beside(self, embeddings: Any, views: Sequence[str]) -> dict[str, Any]:
        """Return the blocks of views whose embeddings are known already."""
        token_ids = [self.encoder.tokenizer.token_ids(view) for view in views]
        blocks = {self.name: embeddings}
        if self.surface is not None:
            blocks[f"{self.name}-surface"] = self.surface.features(token_ids)
        for kind, net in (("components", self.components), ("outputs", self.outputs)):
            if net is not None:
                blocks[f"{self.name}-{kind}"] = net.outputs(embeddings).astype("float32")
        if self.terms is not None:
            blocks[f"{self.name}-terms"] = self.terms.features(token_ids)
        return blocks

    def only(self, blocks: Sequence[str]) -> "Features":
        """Return features without the blocks that are not named; the embedding always stays."""

        def kept(kind: str) -> Any:
            return getattr(self, kind) if f"{self.name}-{kind}" in blocks else None

        return replace(self, **{kind: kept(kind) for kind in KINDS})

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return the arrays of all blocks but the embedding, by kind."""
        parts = {kind: getattr(self, kind) for kind in KINDS}
        return {kind: part.arrays() for kind, part in parts.items() if part is not None}
