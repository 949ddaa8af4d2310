"""The input of the drift tests: how an artifact and its tokenizer see windows of examples."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np

from querytier.classifier.model.surface import surface_table
from querytier.classifier.model.words import RESERVED, UNKNOWN, word_tokenizer, words_of
from querytier.classifier.runtime import Classifier
from querytier.classifier.threshold import goes_to_frontier
from querytier.data.arrays import Floats, Vectors
from querytier.data.examples import Examples
from querytier.data.leakage import near_duplicate_groups
from querytier.data.parallel import map_threads
from querytier.data.text_view import is_truncated
from querytier.errors import ArtifactError
from querytier.eval.drift.windows import Observed
from querytier.eval.slice_masks import script_of

__all__ = ["drawn", "observe"]


_UNKNOWN_SHARE = "share of unknown"


def drawn(window: Examples, most_rows: int, seed: int) -> Examples:
    """Return at most `most_rows` rows of a window, drawn as whole groups.

    The draw does not depend on the order of the rows. At least one group is kept, however large.
    """
    if len(window) <= most_rows:
        return window
    groups = near_duplicate_groups(window.views(), None, window.group.tolist()).astype(str)
    names, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    # Names sorted by np.unique make the draw the same for the same rows in any order.
    order = np.random.default_rng(seed).permutation(len(names))
    kept = np.zeros(len(names), dtype=bool)
    kept[order[np.cumsum(sizes[order]) <= most_rows]] = True
    kept[order[0]] = True
    return window.where(kept[number])


def observe(
    windows: Sequence[Examples], classifier: Classifier, near_duplicate_threshold: float | None
) -> list[Observed]:
    """Return the input of the drift tests, with the same group names in all windows.

    Parameters
    ----------
    windows : sequence of Examples
    classifier : Classifier
        Scores and embeds every query, one by one, on all processors.
    near_duplicate_threshold : float or None
        Queries at least this similar share a group; None joins only equal views.

    Raises
    ------
    ArtifactError
        If the graph has no embeddings.
    """
    examples = Examples.concatenated(windows)
    views = examples.views()
    p_frontier, decision_score, embedding, token_ids = _outputs(classifier, views)
    surface, names, unknown = _surface(classifier, views, token_ids)
    # The text view shortens a long query, and the tokenizer shortens the view: both may hide a
    # part.
    full = [len(ids) >= classifier.manifest.max_tokens for ids in token_ids]
    too_long = [is_truncated(query) for query in examples.query]
    observed = Observed(
        group=near_duplicate_groups(views, near_duplicate_threshold, examples.group.tolist()),
        decision_score=decision_score,
        p_frontier=p_frontier,
        to_frontier=goes_to_frontier(decision_score, classifier.manifest.threshold),
        embedding=embedding,
        surface=surface,
        surface_names=names,
        cut=np.array(full) | np.array(too_long),
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


def _outputs(
    classifier: Classifier, views: Sequence[str]
) -> tuple[Floats, Floats, Vectors, list[list[int]]]:
    """Return p_frontier, decision scores, embeddings and token ids of every view."""
    tokenizer = classifier.tokenizer
    names = ["p_frontier", classifier.manifest.decision_score, "sentence_embedding"]
    names += [] if tokenizer else ["token_ids"]
    missing = set(names) - {output.name for output in classifier.session.get_outputs()}
    if missing:
        raise ArtifactError(
            f"the graph has no output {', '.join(sorted(missing))}, which a comparison of windows "
            "needs; export the artifact again"
        )
    rows = map_threads(partial(classifier.run, names), views, "observe")
    p_frontier, scores = (
        np.array([row[n] for row in rows], dtype=np.float64).reshape(len(rows)) for n in range(2)
    )
    ids = [
        tokenizer.token_ids(view) if tokenizer else row[3].tolist()
        for view, row in zip(views, rows, strict=True)
    ]
    return p_frontier, scores, np.array([row[2] for row in rows], np.float32), ids


def _surface(
    classifier: Classifier, views: Sequence[str], token_ids: list[list[int]]
) -> tuple[Vectors, tuple[str, ...], Floats]:
    """Return the surface features of views, their names, and the share of unknown tokens."""
    if classifier.tokenizer is not None:
        table = surface_table(classifier.tokenizer.json)
        features = table.features(token_ids)
        unknown = features[:, table.feature_names.index(_UNKNOWN_SHARE)]
    else:
        # A graph that reads text keeps its vocabulary inside, so features are counted with a
        # vocabulary of the views' own words; only the unknown share uses the graph's ids.
        words = [words_of(view) for view in views]
        counts = Counter(word for one in words for word in one)
        order = sorted(counts, key=lambda word: (-counts[word], word))
        numbers = {word: n for n, word in enumerate(order)}
        table, start = surface_table(word_tokenizer(numbers)), len(RESERVED)
        features = table.features([[start + numbers[word] for word in one] for one in words])
        unknown = np.array([np.mean([i == UNKNOWN for i in ids] or [False]) for ids in token_ids])
    # Unknown tokens have a test of their own; here they would count twice.
    kept = [n for n, name in enumerate(table.feature_names) if "unknown" not in name]
    names = tuple(table.feature_names[n] for n in kept)
    return features[:, kept], names, unknown.astype(np.float64)
