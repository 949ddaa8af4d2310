"""The features of queries, offline: what recipes are fitted on."""

from querytier.classifier.encoder import load_encoder
from querytier.data.examples import Examples
from querytier.data.text_view import text_view
from querytier.training.baselines import Labelled

__all__ = ["labelled_of"]


def labelled_of(examples: Examples) -> Labelled:
    """Return examples with the blocks of features that recipes choose among."""
    views = [text_view(query) for query in examples.query]
    return Labelled(examples, {"minilm": load_encoder().encode(views)})
