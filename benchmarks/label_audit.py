"""Plant wrong labels, audit, and write how many were found to LABEL_AUDIT.md.

The outcome files are in the folder QUERYTIER_OUTCOMES, by default ../shared/data. With
`--cache FOLDER`, embeddings are kept between runs.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.encoder import load_encoder
from querytier.data.column_map import parse_paths
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import read_unsplit
from querytier.data.ingest.sources import LogSource
from querytier.eval.metrics import auroc
from querytier.training.baselines import LabelledFeatures, Learner
from querytier.training.label_audit.label_errors import audit_labels
from querytier.training.label_audit.predictors import PREDICTORS, out_of_fold_probabilities

ROOT = Path(__file__).parents[1]
OUTCOMES = Path(os.environ.get("QUERYTIER_OUTCOMES", ROOT.parent / "shared" / "data"))
SCORES = "query=query,cheap_score=weak_score,frontier_score=strong_score,group=meta.group,id=id"
EXPLICIT = "query=query,needs_frontier=needs_frontier,label_source=label_source,group=group,id=id"
SETS = {
    "Seed log (annotations by rubric)": (ROOT / "data" / "seed" / "seed.jsonl", EXPLICIT),
    "GSM8K, mixtral-8x7b against gpt-4-1106": (OUTCOMES / "routellm_gsm8k.jsonl.gz", SCORES),
    "MMLU, the same pair": (OUTCOMES / "routellm_mmlu.jsonl.gz", SCORES),
}
LARGEST = 3000
SHARES = (0.05, 0.1, 0.2)
SEEDS = range(5)
FOLDS = 5
READ_FIRST = 50
MEASURES = ("precision", "recall", "first", "random", "random_recall", "same_label")
BOTH: dict[str, Sequence[Learner]] = {" and ".join(PREDICTORS): list(PREDICTORS.values())}

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """The planted errors that one audit found, and that random picks found.

    The precisions are NaN if nothing was flagged.
    """

    flagged: int
    precision: float
    recall: float
    first: float
    random: float
    random_recall: float
    same_label: float


def main() -> int:
    """Audit every set, print the page and write it to LABEL_AUDIT.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, help="folder that keeps embeddings between runs")
    cache = parser.parse_args().cache
    parts = [PREFACE]
    for title, (path, columns) in SETS.items():
        labelled = read_labelled(path, columns, cache)
        parts += [f"## {title}\n", *section(labelled)]
    page = "\n".join(parts)
    (ROOT / "benchmarks" / "LABEL_AUDIT.md").write_text(page, "utf-8")
    print(page)
    return 0


def read_labelled(path: Path, columns: str, cache: Path | None) -> LabelledFeatures:
    """Return a set with embeddings, at most `LARGEST` rows picked at random."""
    with tempfile.TemporaryDirectory() as folder:
        quarantine = Path(folder, "quarantine.jsonl")
        source = LogSource(path, paths=parse_paths(columns))
        examples, _ = read_unsplit([source], Reading(max_bad_share=0.01), quarantine)
    if len(examples) > LARGEST:
        picked = np.random.default_rng(0).choice(len(examples), LARGEST, replace=False)
        examples = examples.where(np.isin(np.arange(len(examples)), picked))
    kept = cache / f"{examples.fingerprint()}.npy" if cache else None
    if kept and kept.is_file():
        return LabelledFeatures(examples, {"minilm": np.load(kept)})
    embeddings = load_encoder().encode(examples.views())
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, embeddings)
    return LabelledFeatures(examples, {"minilm": embeddings})


def section(labelled: LabelledFeatures) -> Iterator[str]:
    """Yield description and tables of one set."""
    labels = labelled.examples.needs_frontier
    known = auroc(out_of_fold_probabilities(labelled, FOLDS, 0), labels, np.ones((1, len(labels))))[
        0
    ]
    untouched = audit_labels(labelled, folds=FOLDS, seed=0)
    errors = sum(suspect.reason == "label_error" for suspect in untouched)
    yield (
        f"- {len(labels)} rows, needs_frontier {labels.mean():.1%}; out of fold the learners rank "
        f"the labels at an AUROC of {known:.3f}\n"
        f"- without planted errors: {errors} suspected label errors, "
        f"{len(untouched) - errors} rows that contradict each other\n"
    )
    yield (
        "| planted | audits that flagged | rows flagged | precision | recall | precision of the "
        f"first {READ_FIRST} | random: precision | random: recall | random, same labels: "
        "precision |\n|---|" + "---:|" * 8
    )
    for share in SHARES:
        found = [audited(labelled, share, seed) for seed in SEEDS]
        flagged = [one.flagged for one in found]
        cells = [f"{np.count_nonzero(flagged)} of {len(found)}", f"{np.mean(flagged):.0f}"]
        cells += [interval([getattr(one, name) for one in found]) for name in MEASURES]
        yield f"| {share:.0%} of labels | {' | '.join(cells)} |"
    yield f"\n| ranked by | found among the first N, {SHARES[1]:.0%} planted |\n|---|---:|"
    alone = {name: [learner] for name, learner in PREDICTORS.items()}
    for name, learners in {**alone, **BOTH}.items():
        shares = [found_first(labelled, SHARES[1], seed, learners) for seed in SEEDS]
        yield f"| {name} | {interval(shares)} |"
    yield ""


def planted(labelled: LabelledFeatures, share: float, seed: int) -> tuple[LabelledFeatures, Truths]:
    """Return the set with a share of its labels flipped, and a mask of these."""
    labels = labelled.examples.needs_frontier.copy()
    sided = np.flatnonzero(labels != 0.5)
    rows = np.random.default_rng(seed).choice(sided, round(share * len(sided)), replace=False)
    labels[rows] = 1 - labels[rows]
    examples = replace(labelled.examples, needs_frontier=labels)
    return LabelledFeatures(examples, labelled.blocks), np.isin(np.arange(len(labels)), rows)


def audited(labelled: LabelledFeatures, share: float, seed: int) -> Found:
    """Plant errors, audit, and compare with random picks of the same number of rows."""
    spoilt, wrong = planted(labelled, share, seed)
    row_of = {example_id: row for row, example_id in enumerate(spoilt.examples.id)}
    suspects = audit_labels(spoilt, folds=FOLDS, seed=seed)
    rows = np.array([row_of[suspect.id] for suspect in suspects], dtype=int)
    labels, random = spoilt.examples.needs_frontier, np.random.default_rng([seed, 1])
    sided, needy = np.flatnonzero(labels != 0.5), np.flatnonzero(labels > 0.5)
    picked = random.choice(sided, len(rows), replace=False)
    flagged_needy = int((labels[rows] > 0.5).sum())
    alike = [
        random.choice(needy, flagged_needy, replace=False),
        random.choice(np.setdiff1d(sided, needy), len(rows) - flagged_needy, replace=False),
    ]
    return Found(
        flagged=len(rows),
        precision=share_of(wrong[rows]),
        recall=float(wrong[rows].sum() / wrong.sum()),
        first=share_of(wrong[rows[:READ_FIRST]]),
        random=share_of(wrong[picked]),
        random_recall=float(wrong[picked].sum() / wrong.sum()),
        same_label=share_of(wrong[np.concatenate(alike)]),
    )


def share_of(truths: Truths) -> float:
    """Return the share that is true; NaN of nothing."""
    return float(truths.mean()) if len(truths) else float("nan")


def found_first(
    labelled: LabelledFeatures, share: float, seed: int, learners: Sequence[Learner]
) -> float:
    """Return the share of N planted errors among the N rows of lowest label quality."""
    spoilt, wrong = planted(labelled, share, seed)
    p_frontier = out_of_fold_probabilities(spoilt, FOLDS, seed, learners)
    labels = spoilt.examples.needs_frontier
    quality = np.where(labels > 0.5, p_frontier, 1 - p_frontier)
    quality[labels == 0.5] = 1.0
    return float(wrong[np.argsort(quality, kind="stable")[: wrong.sum()]].mean())


def interval(values: Sequence[float]) -> str:
    """Return the mean and its 95% interval (Student's t) over the seeds that have a value."""
    from scipy.stats import t

    known = np.array(values)[np.isfinite(values)]
    if len(known) < 2:
        return "n/a"
    mean = float(known.mean())
    half = float(t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5)
    return f"{mean:.3f} ({max(mean - half, 0):.3f} to {min(mean + half, 1):.3f})"


PREFACE = """# The label audit, on planted errors

Written by `QUERYTIER_OUTCOMES=../shared/data python benchmarks/label_audit.py`.

A random share of the labels that are not 0.5 is flipped, then the set is audited with five folds;
in brackets the 95% interval over five seeds. Precision is the share of planted errors among the
flagged rows, recall the share of the planted errors that is flagged. Labels that were wrong before
count as false alarms, so precision is a lower bound. Two random picks of the same number of rows
are shown for comparison: from all rows, and with the same labels as the flagged rows. The second is
the one to beat: if few queries need the frontier model, most labels flipped at random become 1, and
flagging any 1 is a good guess already. "The first 50" are the top of the table that a person gets.
Learners and cleanlab's filter (its default, `prune_by_noise_rate`) were chosen on other seeds.

How to read it:

- **If queries predict their label, the audit works.** On the seed log it finds most of the planted
  errors, with several times the precision of either pick.
- **On real outcomes it hardly works.** Whether a model fails on one question is hard to predict
  from the question (AUROC about 0.6). On GSM8K the audit is little or no better than picking rows
  of the same label, on MMLU somewhat better. There it flags unexpected outcomes, which are rarely
  mistakes: look at the first rows, do not correct in bulk, and never let a filter drop them.
- An audit whose learners show no signal (95% interval of the out-of-fold AUROC not above 0.5) flags
  no label errors; "audits that flagged" counts the others. Its recall of 0 is part of the mean; it
  has no precision.
- Two learners together find at least as many as the better of them, within the intervals; which one
  is better changes from set to set.
"""


if __name__ == "__main__":
    sys.exit(main())
