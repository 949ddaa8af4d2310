"""Near duplicates: queries that share most of their three-word sequences.

Every pair at or above the threshold is found, without sketches or samples: an exact set similarity
join by prefix filtering, after Bayardo, Ma and Srikant, "Scaling up all pairs similarity search"
(WWW 2007), and Xiao, Wang, Lin and Yu, "Efficient similarity joins for near duplicate detection"
(WWW 2008). MinHash with locality-sensitive hashing took longer on 14,000 exam questions, and left
some of their near duplicates apart.
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

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["near_duplicate_links"]

Indices = NDArray[np.intp]

# Thai, Lao, Burmese, Khmer, kana and Han: no spaces part their words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# What ends or quotes a sentence changes no request; other signs, such as + and %, may.
_SENTENCE_MARKS = (
    ".,;:!?'\"\u00a1\u00ab\u00bb\u00bf\u060c\u061b\u061f\u0964\u2018-\u201f\u2026\u3001\u3002"
    "\u300c-\u300f\uff01\uff0c\uff0e\uff1a\uff1b\uff1f"
)
_SIGNS = r"#$%&()*+\-/<=>@\[\\\]^`{|}~\u00b1\u00d7\u00f7\u2010-\u2015\u2190-\u2bff"
_WORD = re.compile(rf"[{_UNSPACED}{_SIGNS}]|[^\s{_SENTENCE_MARKS}{_UNSPACED}{_SIGNS}]+")
_EDGE = 0
_ROUNDING = 1e-9
_CANDIDATES_AT_ONCE = 2_000_000
_PAIRS_AT_ONCE = 200_000


def near_duplicate_links(views: Sequence[str], threshold: float) -> Indices:
    """Return links that connect all near duplicates.

    Two views are near duplicates where the Jaccard similarity of their sets of shingles is at least
    `threshold`. A shingle is three words in sequence, the edges of the view counted as words; case
    and sentence marks do not count; a character of a script without spaces is a word. One differing
    word touches three shingles: at 0.8 it parts queries of up to 24 words, and no longer ones.

    Parameters
    ----------
    views : sequence of str, length n
        Text views. Equal ones are linked as well, but it is faster to join them beforehand.
    threshold : float
        In (0, 1].

    Returns
    -------
    ndarray of intp, shape (k, 2)
        Row numbers of near duplicates. The pairs span each cluster: any two near duplicates are
        connected through them, though not always by a pair of their own.

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
        raise ValueError(f"threshold = {threshold}; a similarity to link at is in (0, 1]")
    if len(views) < 2:
        return np.empty((0, 2), dtype=np.intp)
    shingles = _shingles(views)
    by_size = np.argsort(np.diff(shingles.indptr), kind="stable")
    return np.sort(by_size[_links(shingles[by_size], threshold)], axis=1)


@dataclass(frozen=True, slots=True)
class _Postings:
    """Which rows hold which shingles; `row` and `shingle` are of equal length."""

    row: Indices
    shingle: Indices

    def where(self, mask: NDArray[np.bool_]) -> Self:
        return type(self)(self.row[mask], self.shingle[mask])


def _links(shingles: "csr_array", threshold: float) -> Indices:
    """Join rows sorted by size.

    Rows are compared with the first row of each shingle before all others: where that joins the
    rows of a template, the pairs among them, whose number grows with the square, are never formed.
    """
    probed, indexed = _prefixes(shingles, threshold)
    first = _first_rows(indexed, shingles.shape)
    links = _similar(shingles, _pairs_with_first(probed, first), threshold)
    joined = _components(links, shingles.shape[0])
    home = np.append(joined, -1)[first]
    for pairs in _other_pairs(probed, indexed, joined, home):
        apart = joined[pairs[:, 0]] != joined[pairs[:, 1]]
        links = np.concatenate([links, _similar(shingles, pairs[apart], threshold)])
        joined = _components(links, shingles.shape[0])
    return links


def _shingles(views: Sequence[str]) -> "csr_array":
    """Return which view holds which shingle, the rare shingles first in each row.

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
    """Return the words of all views as numbers, two edges before and after each, and the lengths.

    Views without a word count as one word.
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

    Rows similar by at least t have a shingle in common that is among the rarest s - ceil(t s) + 1
    of the larger row and the rarest s - ceil(2t / (1 + t) s) + 1 of the smaller, s being the number
    of shingles of each (Xiao et al.): so many they must share that no more can be left out.
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
    """Return for each shingle the first row indexed under it, shape[0] where there is none."""
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
    """Yield the pairs that share a shingle, some thousands at once.

    Left out are most pairs joined already: rows in the same component as the first row of a
    shingle, its `home`, probe a second column, which indexes only the rows of other components.
    """
    at_home = joined[probed.row] == home[probed.shingle]
    away = indexed.where(joined[indexed.row] != home[indexed.shingle])
    probes = _held(probed.row, probed.shingle + len(home) * at_home, len(joined), 2 * len(home))
    partners = _held(
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


def _held(rows: Indices, columns: Indices, height: int, width: int) -> "csr_array":
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(height, width))


def _blocks(work: Indices) -> Iterator[tuple[int, int]]:
    """Yield starts and stops of blocks of rows that share cumulative work evenly."""
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


def _components(links: Indices, rows: int) -> Indices:
    from scipy.sparse.csgraph import connected_components

    graph = _held(links[:, 0], links[:, 1], rows, rows)
    labels: Indices = connected_components(graph, directed=False)[1].astype(np.intp)
    return labels
