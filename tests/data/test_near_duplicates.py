"""Near duplicates: every pair is connected, no other pair is linked."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data import near_duplicates
from querytier.data.near_duplicates import near_duplicate_links

WORDS = st.lists(st.sampled_from(["a", "b", "c", "+"]), max_size=9)
VIEWS = st.lists(WORDS.map(" ".join), max_size=12)
THRESHOLDS = st.sampled_from([0.1, 1 / 3, 0.5, 0.6, 0.8, 1.0]) | st.floats(0.01, 1)


def jaccard(left, right):
    """Return the similarity by its definition, for words separated by blanks."""
    first, second = (
        set(itertools.pairwise(itertools.pairwise(["<", "<", *(view.split() or [view]), ">", ">"])))
        for view in (left, right)
    )
    return len(first & second) / len(first | second)


def clusters(pairs, rows):
    """Join rows one pair at a time."""
    cluster = list(range(rows))
    for left, right in pairs:
        old, new = cluster[left], cluster[right]
        cluster = [new if name == old else name for name in cluster]
    return cluster


def linked(left, right, threshold=0.8):
    return len(near_duplicate_links([left, right], threshold)) > 0


@given(VIEWS, THRESHOLDS, st.sampled_from([1, 2_000_000]))
def test_links_connect_exactly_the_pairs_above_the_threshold(views, threshold, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_CANDIDATES_AT_ONCE", at_once)
        links = near_duplicate_links(views, threshold)
    assert links.shape == (len(links), 2)
    assert all(jaccard(views[left], views[right]) >= threshold for left, right in links)
    cluster = clusters(links, len(views))
    for left, right in itertools.combinations(range(len(views)), 2):
        if jaccard(views[left], views[right]) >= threshold:
            assert cluster[left] == cluster[right]


@given(VIEWS, THRESHOLDS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(views, threshold, random):
    order = list(range(len(views)))
    random.shuffle(order)
    before = clusters(near_duplicate_links(views, threshold), len(views))
    links = near_duplicate_links([views[row] for row in order], threshold)
    after = clusters([(order[left], order[right]) for left, right in links], len(views))
    for left, right in itertools.combinations(range(len(views)), 2):
        assert (before[left] == before[right]) == (after[left] == after[right])


def sentence(length, changed=None, script="latin"):
    """Return a sentence of distinct words, one of which may be replaced."""
    numbers = [500 + place if place == changed else place for place in range(length)]
    if script == "latin":
        return " ".join(f"word{number}" for number in numbers)
    return "".join(chr(0x4E00 + number) for number in numbers)


@pytest.mark.parametrize("script", ["latin", "han"])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 10, 24])
def test_one_differing_word_separates_queries_of_up_to_24_words(length, script):
    for place in {0, length // 2, length - 1} - {0 if length > 4 else None}:
        other = sentence(length, place, script)
        assert not linked(sentence(length, None, script), other)


@pytest.mark.parametrize("script", ["latin", "han"])
def test_one_differing_word_leaves_longer_queries_near_duplicates(script):
    assert linked(sentence(25, None, script), sentence(25, 12, script))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("What is a quorum?", "what is a quorum"),
        ("定足数とは何ですか?", "定足数とは何ですか\u3002"),
        ("Zu\u0308rich, bitte!", "z\u00fcrich bitte"),
        ("???", "???"),
    ],
)
def test_case_sentence_marks_and_composition_do_not_count(left, right):
    assert linked(left, right, 1.0)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("reset password", "reset pin"),
        ("yes", "no"),
        ("What is 3 + 4?", "What is 3 - 4?"),
        ("退款", "退货"),
        ("返品したい", "交換したい"),
        ("ขอคืนเงิน", "ขอเปลี่ยนของ"),
        ("हिन्दी में लिखो", "उर्दू में लिखो"),
        ("???", "!!!"),
        ("", "a"),
    ],
)
def test_short_queries_with_one_differing_word_are_apart(left, right):
    assert not linked(left, right, 0.5)


def test_a_template_is_joined_without_comparing_all_pairs():
    """There would be eight million pairs."""
    views = [f"{sentence(40)} order{n}" for n in range(4000)]
    outsider = f"{views[0]} {' '.join(f'more{n}' for n in range(12))}"
    links = near_duplicate_links([*views, outsider], 0.8)
    assert len(np.unique(links)) == len(views)
    assert len(links) < 2 * len(views)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match=r"similarity to link from is in \(0, 1\]"):
        near_duplicate_links(["a", "b"], threshold)
