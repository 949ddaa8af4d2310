"""The audit finds planted errors, gives reasons, and reads its table back."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.ingest.corrections import CORRECTION, Corrector, read_corrections
from querytier.data.labelling import LabelRules
from querytier.errors import TrainingError, UsageError
from querytier.training.baselines import LabelledFeatures
from querytier.training.label_audit.label_errors import audit_labels, write_suspects
from querytier.training.label_audit.predictors import out_of_fold_probabilities

WORDS = {0.0: ["where", "is", "my", "order"], 1.0: ["prove", "the", "lemma", "rigorously"]}


def example(number, query, label, source="judge"):
    values = {"query": query, "group": f"g{number}", "needs_frontier": label}
    values["label_source"] = source
    return example_from(values, LabelRules(("explicit",)), f"id-{number}")


def clear_cut(count=200):
    """Rows whose words and embeddings both show their label."""
    random = np.random.default_rng(0)
    labels = (np.arange(count) % 3 == 0).astype(float)
    rows = [
        example(n, " ".join([*random.permutation(WORDS[label]), f"number{n}"]), label)
        for n, label in enumerate(labels)
    ]
    embeddings = random.normal(size=(count, 4)) * 0.5
    embeddings[:, 0] += 3 * labels
    return LabelledFeatures(Examples.of(rows), {"minilm": embeddings.astype(np.float32)})


def relabelled(labelled, labels, **others):
    examples = replace(labelled.examples, needs_frontier=np.array(labels, dtype=float), **others)
    return LabelledFeatures(examples, labelled.blocks)


def flipped(labelled, rows):
    labels = labelled.examples.needs_frontier.copy()
    labels[rows] = 1 - labels[rows]
    return relabelled(labelled, labels)


PLANTED = [3, 10, 50, 77, 120, 151]


@pytest.fixture(scope="module")
def spoilt():
    return flipped(clear_cut(), PLANTED)


@pytest.fixture(scope="module")
def suspects(spoilt):
    return audit_labels(spoilt, folds=4, seed=0)


def test_planted_errors_are_listed_least_plausible_first(suspects):
    found = {suspect.id for suspect in suspects}
    assert found <= {f"id-{n}" for n in PLANTED}
    assert len(found) >= len(PLANTED) - 1
    assert {suspect.reason for suspect in suspects} == {"label_error"}
    qualities = [suspect.quality for suspect in suspects]
    assert qualities == sorted(qualities)
    for suspect in suspects:
        sure = suspect.p_frontier if suspect.needs_frontier > 0.5 else 1 - suspect.p_frontier
        assert suspect.quality == sure


def test_planted_errors_are_the_least_plausible_labels(spoilt):
    p_frontier = out_of_fold_probabilities(spoilt, 4, 0)
    labels = spoilt.examples.needs_frontier
    quality = np.where(labels > 0.5, p_frontier, 1 - p_frontier)
    assert set(np.argsort(quality)[: len(PLANTED)].tolist()) == set(PLANTED)


def applied(examples, corrections):
    """Return examples with all corrections, and the number of corrections."""
    corrector = Corrector(corrections)
    corrected = corrector.apply(examples)
    corrector.check_all_used()
    return corrected, corrector.corrected


def test_a_corrected_table_corrects_the_labels(spoilt, suspects, tmp_path):
    write_suspects(suspects, tmp_path / "review.csv")
    with (tmp_path / "review.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"'{suspect.id}" for suspect in suspects]
    assert {row["corrected_label"] + row["comment"] for row in rows} == {""}
    for row in rows:
        row["corrected_label"] = 1 - float(row["needs_frontier"])
    with (tmp_path / "review.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    corrections = read_corrections(tmp_path / "review.csv")
    corrected, count = applied(spoilt.examples, corrections)
    wrong = corrected.needs_frontier != clear_cut().examples.needs_frontier
    assert count == len(suspects)
    assert wrong.sum() == len(PLANTED) - len(suspects)
    with pytest.raises(UsageError, match=f"holds {count} corrections, which a new table would"):
        write_suspects(suspects, tmp_path / "review.csv")
    assert (corrected.label_source == CORRECTION).sum() == count


def test_confirmed_labels_are_not_suspected_again(spoilt, suspects):
    confirmed = int(suspects[0].id.removeprefix("id-"))
    sources = spoilt.examples.label_source.copy()
    sources[confirmed] = CORRECTION
    again = relabelled(spoilt, spoilt.examples.needs_frontier, label_source=sources)
    assert audit_labels(again, folds=4, seed=0) == suspects[1:]


def test_a_label_of_one_half_is_never_suspected(spoilt):
    labels = spoilt.examples.needs_frontier.copy()
    labels[PLANTED[:2]] = 0.5
    found = {suspect.id for suspect in audit_labels(relabelled(spoilt, labels), folds=4, seed=0)}
    assert found
    assert found <= {f"id-{n}" for n in PLANTED[2:]}


def test_soft_labels_are_checked_by_their_side(spoilt):
    soft = np.where(spoilt.examples.needs_frontier > 0.5, 0.9, 0.1)
    found = audit_labels(relabelled(spoilt, soft), folds=4, seed=0)
    assert len(found) >= len(PLANTED) - 2
    assert {suspect.id for suspect in found} <= {f"id-{n}" for n in PLANTED}


def test_without_signal_no_label_is_suspected():
    labelled = clear_cut()
    rows = [example(n, f"word{n}", label) for n, label in enumerate(labels_of(labelled))]
    silent = LabelledFeatures(Examples.of(rows), {"minilm": np.zeros_like(labelled.embeddings)})
    assert audit_labels(silent, folds=4, seed=0) == []


def labels_of(labelled):
    return labelled.examples.needs_frontier.tolist()


def with_duplicates(*duplicates):
    """Return the clear-cut rows and rows of their own group, without meaning in their embedding."""
    labelled = clear_cut(60)
    rows = [example(n, query, label) for n, (query, label) in enumerate(row_values(labelled))]
    rows += [example(f"d{n}", *values) for n, values in enumerate(duplicates)]
    extra = np.full((len(duplicates), 4), 1.5, dtype=np.float32)
    return LabelledFeatures(
        Examples.of(rows), {"minilm": np.concatenate([labelled.embeddings, extra])}
    )


def row_values(labelled):
    return zip(labelled.examples.query, labelled.examples.needs_frontier, strict=True)


def contradictions(labelled):
    found = audit_labels(labelled, folds=3, seed=0)
    return {suspect.id: suspect for suspect in found if suspect.reason != "label_error"}


def test_equal_views_with_opposite_labels_contradict():
    found = contradictions(
        with_duplicates(
            ("Is it raining?", 0.0),
            ("Is  it\nraining?", 1.0),
            ("Is it raining?", 0.5),
            ("Is it", 1),
        )
    )
    assert {suspect.reason for suspect in found.values()} == {"contradictory_duplicate"}
    assert set(found) == {"id-d0", "id-d1"}
    assert found["id-d0"].note == "the same text, id-d1 is labelled 1 by judge"
    assert found["id-d1"].note == "the same text, id-d0 is labelled 0 by judge"


def test_sources_that_agree_with_themselves_disagree():
    found = contradictions(
        with_duplicates(("Why?", 0.25, "ada"), ("Why?", 0.0, "ada"), ("Why?", 1.0, "grace"))
    )
    assert [suspect.reason for suspect in found.values()] == ["judges_disagree"] * 3
    assert found["id-d2"].note == (
        "the same text, id-d0 is labelled 0.25 by ada, id-d1 is labelled 0 by ada"
    )


def test_contradictions_come_first_and_no_example_twice():
    labelled = with_duplicates(("prove the lemma", 0.0), ("prove the lemma", 1.0))
    labelled.embeddings[-2:, 0] = 3
    found = [suspect.id for suspect in audit_labels(labelled, folds=3, seed=0)]
    assert set(found[:2]) == {"id-d0", "id-d1"}
    assert len(found) == len(set(found))


def test_many_duplicates_are_counted_in_the_note():
    found = contradictions(with_duplicates(("Why?", 0.0), *[("Why?", 1.0)] * 8))
    assert found["id-d0"].note.endswith("id-d5 is labelled 1 by judge and 3 more")


@pytest.mark.parametrize("needy", [0, 2, 200])
def test_too_few_labels_of_one_side_are_refused(needy):
    labels = (np.arange(200) < needy).astype(float)
    with pytest.raises(TrainingError, match="too few for 4 folds; add labelled rows, or lower"):
        audit_labels(relabelled(clear_cut(), labels), folds=4, seed=0)


def test_one_side_in_a_single_group_is_refused():
    labels = (np.arange(200) < 20).astype(float)
    groups = np.where(labels > 0.5, "one", clear_cut().examples.group)
    with pytest.raises(TrainingError, match="or their groups, are too few"):
        audit_labels(relabelled(clear_cut(), labels, group=groups), folds=4, seed=0)
