"""Labelled rows for tests of training; what tells them apart is the first embedding coordinate."""

import numpy as np

from blank import blank_examples
from querytier.training.baselines import LabelledFeatures

__all__ = ["labelled_rows", "rows_with_gain", "scored_rows"]


def labelled_rows(count, seed=0, split="train"):
    """Return rows without scores, two in a group; the label is noisy."""
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(count, 4)).astype(np.float32)
    need = (embeddings[:, 0] + random.normal(size=count) > 0.7).astype(float)
    examples = blank_examples(
        id=[str(n) for n in range(count)],
        query=[f"word{n % 7} number {n}" for n in range(count)],
        needs_frontier=need,
        group=[f"g{n // 2}" for n in range(count)],
        domain=[f"d{n % 3}" for n in range(count)],
        split=[split] * count if isinstance(split, str) else split,
    )
    return LabelledFeatures(examples, {"minilm": embeddings})


def scored_rows(count, seed=0):
    """Return rows on which either tier is better at one end of the coordinate, without noise."""
    rows = labelled_rows(count, seed)
    first = rows.embeddings[:, 0].astype(float)
    return _with_scores(rows, (first < 0.7).astype(float), (first > -1.2).astype(float))


def rows_with_gain(count, seed=0):
    """Return rows that the cheap tier never solves; whether the frontier tier does is noisy."""
    rows = labelled_rows(count, seed)
    noise = np.random.default_rng(seed + 1).normal(size=count)
    better = (rows.embeddings[:, 0] + noise > 0).astype(float)
    return _with_scores(rows, np.zeros(count), better)


def _with_scores(rows, cheap, frontier):
    examples = rows.examples
    examples.cheap_score[:], examples.frontier_score[:] = cheap, frontier
    examples.needs_frontier[:] = (cheap < 0.5) & (frontier >= 0.5)
    return rows
