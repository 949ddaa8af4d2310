"""Near duplicates: queries that share most of their three-word sequences.

All pairs at or above the threshold are found, without sketches or samples. It is an exact set
similarity join with prefix filtering, after Bayardo, Ma and Srikant, "Scaling up all pairs
similarity search" (WWW 2007), and Xiao, Wang, Lin and Yu, "Efficient similarity joins for near
duplicate detection" (WWW 2008). MinHash with locality-sensitive hashing took longer on 14,000 exam
questions, and missed some of their near duplicates.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Indices

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["components", "near_duplicate_links"]


# Thai, Lao, Burmese, Khmer, kana and Han: scripts without spaces between words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks that end or quote a sentence do not change a request; other signs, such as + and %, may.
_SENTENCE_MARKS = (
    ".,;:!?'\"\u00a1\u00ab\u00bb\u00bf\u060c\u061b\u061f\u0964\u2018-\u201f\u2026\u3001\u3002"
    "\u300c-\u300f\uff01\uff0c\uff0e\uff1a\uff1b\uff1f"
)
_SIGNS = r"#$%&()*+\-/<=>@\[\\\]^`{|}~\u00b1\u00d7\u00f7\u2010-\u2015\u2190-\u2bff"
_WORD = re.compile(rf"[{_UNSPACED}{_SIGNS}]|[^\s{_SENTENCE_MARKS}{_UNSPACED}{_SIGNS}]+")
_EDGE = 0
# Floating point may put threshold * size just above the whole number that it equals; rounding up
# would then shorten a prefix by one, and miss pairs that are exactly at the threshold.
_ROUNDING = 1e-9
# Both bound the memory: a sparse product of candidates, and the rows of shingles of compared pairs.
_CANDIDATES_AT_ONCE = 2_000_000
_PAIRS_AT_ONCE = 200_000


def near_duplicate_links(views: Sequence[str], threshold: float) -> Indices:
    """Return links that connect all near duplicates.

    Two views are near duplicates if the Jaccard similarity of their sets of shingles is at least
    `threshold`. A shingle is three words in a row; the two edges of a view count as words, case and
    sentence marks are ignored, and in a script without spaces each character is a word. A word that
    differs changes three shingles: at 0.8, two queries that differ in one word are near duplicates
    if they have more than 24 words.

    Parameters
    ----------
    views : sequence of str, length n
        Text views. Equal ones are linked as well, but joining them beforehand is faster.
    threshold : float
        In (0, 1].

    Returns
    -------
    ndarray of intp, shape (k, 2)
        Row numbers of near duplicates. The pairs span each cluster: they connect any two near
        duplicates, but not always directly.

    Raises
    ------
    ValueError
        If the threshold is outside (0, 1].

    Examples
    --------
    >>> near_duplicate_links(["What is a quorum?", "What is a forum?", "what is a quorum"], 0.8)
    array([[0, 2]])
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; a similarity to link from is in (0, 1]")
    if len(views) < 2:
        return np.empty((0, 2), dtype=np.intp)
    shingles = _shingles(views)
    by_size = np.argsort(np.diff(shingles.indptr), kind="stable")
    return np.sort(by_size[_links(shingles[by_size], threshold)], axis=1)


@dataclass(frozen=True, slots=True)
class _Postings:
    """Pairs of a row and a shingle that it has; both arrays have the same length."""

    row: Indices
    shingle: Indices

    def where(self, mask: NDArray[np.bool_]) -> Self:
        return type(self)(self.row[mask], self.shingle[mask])


def _links(shingles: "csr_array", threshold: float) -> Indices:
    """Return the links of rows that are sorted by size.

    Rows are first compared with the first row of each shingle only. If that connects all rows of a
    template, the pairs among them are never formed; their number grows with the square of the rows.
    """
    probed, indexed = _prefixes(shingles, threshold)
    first = _first_rows(indexed, shingles.shape)
    links = _similar(shingles, _pairs_with_first(probed, first), threshold)
    joined = components(links, shingles.shape[0])
    home = np.append(joined, -1)[first]
    for pairs in _other_pairs(probed, indexed, joined, home):
        apart = joined[pairs[:, 0]] != joined[pairs[:, 1]]
        links = np.concatenate([links, _similar(shingles, pairs[apart], threshold)])
        joined = components(links, shingles.shape[0])
    return links


def _shingles(views: Sequence[str]) -> "csr_array":
    """Return which view has which shingle, in each row the rarest shingle first.

    The order matters twice: prefixes are the rarest shingles of a row, and rare shingles are shared
    by few rows, so that few candidates have to be compared.

    Returns
    -------
    csr_array of int32, shape (n, number of distinct shingles)
    """
    from scipy.sparse import csr_array

    words, lengths = _word_numbers(views)
    base = int(words.max()) + 1
    _, pairs = np.unique(words[:-1] * base + words[1:], return_inverse=True)
    _, triples = np.unique(pairs[:-1] * base + words[2:], return_inverse=True)
    rows = np.repeat(np.arange(len(views)), lengths + 2)
    shape = (len(views), int(triples.max()) + 1)
    held = csr_array((np.ones(len(rows), dtype=np.int32), (rows, triples)), shape=shape)
    rarity = np.argsort(np.argsort(np.bincount(held.indices), kind="stable"))
    held = csr_array((np.ones_like(held.data), rarity[held.indices], held.indptr), shape=shape)
    held.sort_indices()
    return held


def _word_numbers(views: Sequence[str]) -> tuple[Indices, Indices]:
    """Return the words of all views as numbers, with two edges around each view, and the lengths.

    A view without a word, such as "???", counts as one word.
    """
    numbers: defaultdict[str, int] = defaultdict(count(_EDGE + 1).__next__)
    words = [[numbers[word] for word in _words(view)] for view in views]
    edges = [_EDGE, _EDGE]
    flat = chain(edges, chain.from_iterable(chain(row, edges) for row in words))
    return np.fromiter(flat, dtype=np.int64), np.array([len(row) for row in words])


def _words(view: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFC", view).casefold()) or [view]


def _prefixes(shingles: "csr_array", threshold: float) -> tuple[_Postings, _Postings]:
    """Return the prefixes with which rows probe, and those under which they are indexed.

    Let x be the larger and y the smaller of two rows, as sets of shingles. A Jaccard similarity of
    at least t means that they share at least t / (1 + t) (|x| + |y|) shingles (Xiao et al., eq. 1).
    That is at least t |x|, as |y| >= t |x|, and at least 2t / (1 + t) |y|, as |x| >= |y|. So if the
    rarest |x| - ceil(t |x|) + 1 shingles of x and the rarest |y| - ceil(2t / (1 + t) |y|) + 1 of y
    are all different, too few others are left, and the pair need not be compared.
    """
    size = np.diff(shingles.indptr)
    row = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(row)) - shingles.indptr[row]
    postings = _Postings(row, shingles.indices)

    def rarest(share: float) -> _Postings:
        length = size - np.ceil(share * size - _ROUNDING) + 1
        return postings.where(place < length[row])

    return rarest(threshold), rarest(2 * threshold / (1 + threshold))


def _first_rows(indexed: _Postings, shape: tuple[int, int]) -> Indices:
    """Return for each shingle the first row indexed under it; shape[0] if there is none."""
    first = np.full(shape[1], shape[0])
    np.minimum.at(first, indexed.shingle, indexed.row)
    return first


def _pairs_with_first(probed: _Postings, first: Indices) -> Indices:
    others = probed.where(first[probed.shingle] < probed.row)
    base = int(probed.row.max()) + 1
    pairs = np.unique(first[others.shingle] * base + others.row)
    return np.stack(np.divmod(pairs, base), axis=1)


def _other_pairs(
    probed: _Postings, indexed: _Postings, joined: Indices, home: Indices
) -> Iterator[Indices]:
    """Yield the pairs that share a shingle of their prefixes, in blocks.

    Most pairs that are connected already are skipped. Every shingle has two columns: the first
    indexes all its rows, the second only rows outside the component of its first row, its `home`.
    Rows of the home component probe the second column, and so never meet each other again.
    """
    at_home = joined[probed.row] == home[probed.shingle]
    away = indexed.where(joined[indexed.row] != home[indexed.shingle])
    probes = _csr(probed.row, probed.shingle + len(home) * at_home, len(joined), 2 * len(home))
    partners = _csr(
        np.concatenate([indexed.shingle, away.shingle + len(home)]),
        np.concatenate([indexed.row, away.row]),
        2 * len(home),
        len(joined),
    )
    work = np.cumsum(probes @ np.diff(partners.indptr))
    for start, stop in _blocks(work):
        shared = (probes[start:stop] @ partners).tocoo()
        pairs = np.stack([shared.col, shared.row + start], axis=1).astype(np.intp)
        yield pairs[pairs[:, 0] < pairs[:, 1]]


def _csr(rows: Indices, columns: Indices, height: int, width: int) -> "csr_array":
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(height, width))


def _blocks(work: Indices) -> Iterator[tuple[int, int]]:
    """Yield starts and stops of blocks of rows with about the same number of candidates."""
    start, done = 0, 0
    while start < len(work):
        limit = np.searchsorted(work, done + _CANDIDATES_AT_ONCE, side="right")
        stop = max(int(limit), start + 1)
        yield start, stop
        start, done = stop, int(work[stop - 1])


def _similar(shingles: "csr_array", pairs: Indices, threshold: float) -> Indices:
    """Return the pairs whose Jaccard similarity is at least the threshold."""
    parts = np.array_split(pairs, len(pairs) // _PAIRS_AT_ONCE + 1)
    return np.concatenate([part[_jaccard(shingles, *part.T) >= threshold] for part in parts])


def _jaccard(shingles: "csr_array", left: Indices, right: Indices) -> NDArray[np.float64]:
    size = np.diff(shingles.indptr)
    common = shingles[left].multiply(shingles[right]).sum(axis=1)
    similarity: NDArray[np.float64] = common / (size[left] + size[right] - common)
    return similarity


def components(links: Indices, rows: int) -> Indices:
    """Return for each row the connected component of the links that it is in, shape (rows,)."""
    from scipy.sparse.csgraph import connected_components

    graph = _csr(links[:, 0], links[:, 1], rows, rows)
    labels: Indices = connected_components(graph, directed=False)[1].astype(np.intp)
    return labels
