"""What an artifact, and its tokenizer, see of windows of examples: the input of the drift tests."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.surface import surface_table
from querytier.classifier.model.words import RESERVED, UNKNOWN, word_tokenizer, words_of
from querytier.classifier.runtime import Classifier
from querytier.classifier.threshold import goes_to_frontier
from querytier.data.examples import Examples
from querytier.data.near_duplicates import near_duplicate_links
from querytier.data.splits import joined_groups
from querytier.data.text_view import hashed, is_truncated
from querytier.errors import ArtifactError
from querytier.eval.drift.windows import Observed
from querytier.eval.slice_masks import script_of
from querytier.parallel import map_threads

__all__ = ["drawn", "observe"]

Floats = NDArray[np.float64]

_UNKNOWN_SHARE = "share of unknown"


def drawn(window: Examples, most_rows: int, seed: int) -> Examples:
    """Return a window of at most so many rows: whole groups, drawn whatever the order of the rows.

    At least one group is kept, however large.
    """
    if len(window) <= most_rows:
        return window
    names, place, sizes = np.unique(_names(window), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    kept = np.zeros(len(names), dtype=bool)
    kept[order[np.cumsum(sizes[order]) <= most_rows]] = True
    kept[order[0]] = True
    return window.where(kept[place])


def observe(
    windows: Sequence[Examples], classifier: Classifier, near_duplicate_threshold: float | None
) -> list[Observed]:
    """Return what is seen of the examples of some windows, their groups by one naming.

    Parameters
    ----------
    windows : sequence of Examples
    classifier : Classifier
        Decides and embeds every query, one by one, on all cores.
    near_duplicate_threshold : float or None
        Queries at least this similar share a group; None joins equal views only.

    Raises
    ------
    ArtifactError
        If the graph has no embeddings.
    """
    examples = Examples.concatenated(windows)
    views = examples.views()
    seen = _Seen.by(classifier, views)
    surface, names, unknown = _surface(classifier, views, seen.token_ids)
    capped = [len(ids) >= classifier.manifest.max_tokens for ids in seen.token_ids]
    too_long = [is_truncated(query) for query in examples.query]
    observed = Observed(
        group=_group_names(examples, views, near_duplicate_threshold),
        decision_score=seen.decision_score,
        p_frontier=seen.p_frontier,
        to_frontier=goes_to_frontier(seen.decision_score, classifier.manifest.threshold),
        embedding=seen.embedding,
        surface=surface,
        surface_names=names,
        cut=np.array(capped) | np.array(too_long),
        unknown_share=unknown,
        script=np.array([script_of(view) for view in views], dtype=object),
        language=examples.language,
        domain=examples.domain,
        source=examples.source,
        label_source=examples.label_source,
        needs_frontier=examples.needs_frontier,
    )
    ends = np.cumsum([len(window) for window in windows])[:-1]
    return [observed.where(rows) for rows in np.split(np.arange(len(examples)), ends)]


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a graph says of n views."""

    decision_score: Floats
    p_frontier: Floats
    embedding: NDArray[np.float32]
    token_ids: list[list[int]]

    @classmethod
    def by(cls, classifier: Classifier, views: Sequence[str]) -> "_Seen":
        """Ask it about every view once, on all cores."""
        score = classifier.manifest.decision_score
        asked = ["p_frontier", score, "sentence_embedding"]
        tokens = [] if classifier.tokenizer else ["token_ids"]
        missing = {*asked, *tokens} - {one.name for one in classifier.session.get_outputs()}
        if missing:
            raise ArtifactError(
                f"the graph has no output {', '.join(sorted(missing))}, so that windows cannot be "
                "compared by it; export the artifact again"
            )

        found = map_threads(partial(classifier.run, [*asked, *tokens]), views, "observe")
        p_frontier, scores = (
            np.array([one[n] for one in found], dtype=np.float64).reshape(len(found))
            for n in range(2)
        )
        ids = [
            classifier.tokenizer.token_ids(view) if classifier.tokenizer else one[3].tolist()
            for view, one in zip(views, found, strict=True)
        ]
        return cls(scores, p_frontier, np.array([one[2] for one in found], np.float32), ids)


def _surface(
    classifier: Classifier, views: Sequence[str], token_ids: list[list[int]]
) -> tuple[NDArray[np.float32], tuple[str, ...], Floats]:
    """Return the surface features of views, their names, and the share of unknown tokens.

    A graph that reads text has a vocabulary of its own inside; the words of the views are counted
    by theirs.
    """
    if classifier.tokenizer is not None:
        table = surface_table(classifier.tokenizer.json)
        features = table.features(token_ids)
        unknown = features[:, table.feature_names.index(_UNKNOWN_SHARE)]
    else:
        words = [words_of(view) for view in views]
        counts = Counter(word for one in words for word in one)
        places = {word: n for n, word in enumerate(sorted(counts, key=_rarity(counts)))}
        table = surface_table(word_tokenizer(places))
        reserved = len(RESERVED)
        features = table.features([[reserved + places[word] for word in one] for one in words])
        unknown = np.array([np.mean([i == UNKNOWN for i in ids] or [False]) for ids in token_ids])
    # The share of all tokens in all tokens is 1, and what is not known has a test of its own.
    kept = [n for n, name in enumerate(table.feature_names) if "unknown" not in name]
    names = tuple(table.feature_names[n] for n in kept)
    return features[:, kept], names, unknown.astype(np.float64)


def _rarity(counts: Counter[str]) -> Callable[[str], tuple[int, str]]:
    return lambda word: (-counts[word], word)


def _names(examples: Examples) -> NDArray[np.object_]:
    """Return the groups' names; what has none is alone, unless its view is another's."""
    views = (f"{hashed(view):016x}" for view in examples.views())
    pairs = zip(examples.group, views, strict=True)
    return np.array([group or view for group, view in pairs], dtype=str)


def _group_names(
    examples: Examples, views: Sequence[str], threshold: float | None
) -> NDArray[np.object_]:
    hashes = np.array([hashed(view) for view in views], dtype=np.uint64)
    pairs = zip(examples.group, hashes.tolist(), strict=True)
    names = np.array([hashed(group) if group else view for group, view in pairs], dtype=np.uint64)
    links = None if threshold is None else near_duplicate_links(views, threshold)
    groups = joined_groups(names, hashes, links)
    return np.array([f"{group:016x}" for group in groups.tolist()], dtype=object)
