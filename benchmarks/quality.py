"""Measure the ranking of real outcomes, each query by a classifier that has not seen it.

The outcome files are in the folder QUERYTIER_OUTCOMES, by default ../shared/data. The sets are
measured in parallel, with one thread each. With `--sets`, the page is printed and not written.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from quality_page import Measured, Yardstick, results_page
from real_runs import OUTCOMES, ROOT, SCORES
from sections import write_section

from querytier.classifier.threshold import goes_to_frontier
from querytier.data.column_map import parse_paths
from querytier.data.examples import Examples
from querytier.data.formats.reading import read_records
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import read_unsplit
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.eval.evaluation import Evaluation, evaluate_rankings
from querytier.eval.rankings import Ranking, oracle, probability_ranking
from querytier.pipeline.cross_validation import nested_evaluation
from querytier.pipeline.evaluation_run import unfitted_rankings
from querytier.pipeline.feature_blocks import FeatureBlocks
from querytier.pipeline.params import Budget, Params, TrainParams
from querytier.training.baselines import LEARNED_BASELINES
from querytier.training.fit import FitSettings, fit_classifier
from querytier.training.nested import OutOfFoldPredictions

BY_GROUP = "nested cross-validation, five outer and five inner folds by group"
BY_DOMAIN = (
    "nested cross-validation, five outer folds by subject, five inner ones by group; rows whose "
    "group is in two subjects are left out"
)
ZERO_SHOT = (
    "trained on all of MMLU and GSM8K, calibrated out of fold; rows that RouteLLM found in its "
    "training set are left out"
)
JUDGED_SUCCESS = 0.8

Masks = list[NDArray[np.bool_]]
Judged = tuple[Examples, Evaluation, OutOfFoldPredictions]


@dataclass(frozen=True)
class OutcomeFile:
    """A file of outcomes; `domain` is the column with the domain of a query."""

    name: str
    domain: str = "domain"

    @property
    def path(self) -> Path:
        """Path of the file."""
        return OUTCOMES / f"{self.name}.jsonl.gz"


MMLU = OutcomeFile("routellm_mmlu", "meta.subject")
GSM8K = OutcomeFile("routellm_gsm8k")
MT_BENCH = OutcomeFile("routellm_mtbench")


@dataclass(frozen=True)
class OutcomeSet:
    """A set to measure; `judged` takes parameters, returns examples, evaluation and scores."""

    yardstick: Yardstick
    files: tuple[OutcomeFile, ...]
    judged: Callable[[Params], Judged]


def main() -> int:
    """Measure the sets; write the section to RESULTS.md, or print it."""
    options = parsed_options()
    missing = [file for name in options.sets for file in SETS[name].files if not file.path.exists()]
    if missing:
        print(
            f"nothing measured: {missing[0].path} is missing; set QUERYTIER_OUTCOMES to its folder"
        )
        return 0
    started = time.perf_counter()
    measured = measured_sets(options.sets, options.budget, options.keep)
    found = {name: (SETS[name].yardstick, one) for name, one in measured.items()}
    page = results_page(found, options.budget, time.perf_counter() - started)
    if set(options.sets) == set(SETS):
        write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-quality", page)
    else:
        print(page)
    return 0


def parsed_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", choices=get_args(Budget), default="quick")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="NAME")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="write the scores there, one file per set"
    )
    return parser.parse_args()


def measured_sets(names: Sequence[str], budget: Budget, keep: Path | None) -> dict[str, Measured]:
    """Measure each set in its own process, as many at once as there are cores."""
    # Matrices of this size gain nothing from a second thread.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Sets that share files with others come last, when the embeddings are cached.
    in_order = sorted(names, key=lambda name: SETS[name].yardstick.protocol != BY_GROUP)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as processes:
        found = processes.map(partial(measured_set, budget=budget, keep=keep), in_order)
        measured = dict(zip(in_order, found, strict=True))
    return {name: measured[name] for name in SETS if name in measured}


def measured_set(name: str, budget: Budget, keep: Path | None) -> Measured:
    """Measure one set; write its scores if `keep` is given."""
    started = time.perf_counter()
    print(f"{name}: started", file=sys.stderr, flush=True)
    examples, evaluation, found = SETS[name].judged(Params(train=TrainParams(budget=budget)))
    if keep is not None:
        keep_scores(keep / f"{name}.npz", examples, found)
    seconds = time.perf_counter() - started
    print(f"{name}: done after {seconds:.0f} s", file=sys.stderr, flush=True)
    return Measured(
        rows=len(examples),
        groups=len(set(examples.group)),
        needs_frontier=float(examples.needs_frontier.mean()),
        metrics={
            "rows": [row.to_dict() for row in evaluation.rows],
            "mean_scores": {name: one.to_dict() for name, one in evaluation.mean_scores.items()},
        },
        chosen=found.chosen,
        ece_when_calibrated=evaluation.ece_when_calibrated,
        seconds=seconds,
    )


def by_group(file: OutcomeFile, params: Params) -> Judged:
    """Cross-validate selection, fit and calibration, with all folds by group."""
    return nested(examples_of([file]), params)


def by_domain(file: OutcomeFile, params: Params) -> Judged:
    """Cross-validate so that domains of held-out rows are not in the training rows."""
    from sklearn.model_selection import GroupKFold

    examples = examples_of([file])
    pairs = set(zip(examples.group, examples.domain, strict=True))
    domains_of = Counter(group for group, _ in pairs)
    examples = examples.where(np.array([domains_of[group] == 1 for group in examples.group]))
    domains = examples.domain.astype(str)
    splitter = GroupKFold(params.train.folds)
    folds = [held_out for _, held_out in splitter.split(domains, groups=domains)]
    rows = np.arange(len(examples))
    return nested(examples, params, [np.isin(rows, held_out) for held_out in folds])


def nested(examples: Examples, params: Params, masks: Masks | None = None) -> Judged:
    """Evaluate rows by nested cross-validation."""
    blocks = FeatureBlocks.fitted_to(examples, params.train)
    recipes = blocks.recipes(examples, params.train)
    return examples, *nested_evaluation(blocks.labelled(examples), recipes, params, masks=masks)


def zero_shot(known: Sequence[OutcomeFile], test: OutcomeFile, params: Params) -> Judged:
    """Train on some files, evaluate on another, without rows in RouteLLM's training set.

    Calibration and threshold come out of fold from the training rows.
    """
    section, rows = params.train, examples_of(known)
    rows = replace(rows, split=np.full(len(rows), "train", dtype=object))
    examples = not_contaminated(examples_of([test], JUDGED_SUCCESS), test)
    blocks = FeatureBlocks.fitted_to(rows, section)
    learned_from, judged_by = blocks.labelled(rows), blocks.labelled(examples)
    fitted = fit_classifier(
        learned_from,
        blocks.recipes(rows, section),
        FitSettings(section.folds, section.target_frontier_rate, section.seed),
        baselines={},
    )
    scores = fitted.heads.decision_scores(judged_by.blocks)
    p_frontier = fitted.heads.p_frontier(judged_by.blocks)
    classifier = Ranking("classifier", scores, p_frontier, "other sets")
    base_rate = float(rows.needs_frontier.mean())
    baselines = [
        *unfitted_rankings(examples, classifier, base_rate, params.evaluate.seed),
        *(
            probability_ranking(name, learner(learned_from, judged_by), "other sets")
            for name, learner in LEARNED_BASELINES.items()
        ),
        oracle(examples),
    ]
    evaluation = evaluate_rankings(
        examples,
        classifier,
        baselines,
        threshold=fitted.threshold,
        replicates=params.evaluate.bootstrap,
        seed=params.evaluate.seed,
    )
    to_frontier = goes_to_frontier(scores, fitted.threshold)
    one_fold, chosen = [np.ones(len(examples), dtype=bool)], Counter([fitted.chosen])
    return (
        examples,
        evaluation,
        OutOfFoldPredictions(scores, p_frontier, to_frontier, chosen, one_fold),
    )


def examples_of(files: Sequence[OutcomeFile], ok_threshold: float = 0.5) -> Examples:
    """Read the labelled examples of files, with both scores."""
    sources = [
        LogSource(file.path, paths=parse_paths(f"{SCORES},domain={file.domain}")) for file in files
    ]
    reading = Reading(LabelRules(ok_threshold=ok_threshold), max_bad_share=0.01)
    with tempfile.TemporaryDirectory() as folder:
        return read_unsplit(sources, reading, Path(folder, "quarantine.jsonl"))[0]


def not_contaminated(examples: Examples, file: OutcomeFile) -> Examples:
    """Return the examples that RouteLLM's own evaluation keeps."""
    fields: list[Any] = [record.fields for record in read_records(file.path) if record.fields]
    dropped = {one["id"] for one in fields if one["meta"]["contaminated"]}
    return examples.where(np.array([one not in dropped for one in examples.id]))


def keep_scores(path: Path, examples: Examples, found: OutOfFoldPredictions) -> None:
    """Write the scores of each row, with its fold and its outcomes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        id=examples.id.astype(str),
        fold=np.argmax(np.array(found.masks), axis=0),
        decision_score=found.decision_scores,
        p_frontier=found.p_frontier,
        needs_frontier=examples.needs_frontier,
        cheap_score=examples.cheap_score,
        frontier_score=examples.frontier_score,
    )


def one_file(file: OutcomeFile, title: str, **known: Any) -> OutcomeSet:
    """Return a set that is cross-validated by group."""
    return OutcomeSet(Yardstick(title, BY_GROUP, **known), (file,), partial(by_group, file))


SETS = {
    "routellm_mmlu": one_file(MMLU, "MMLU", domains_known=True, published=0.603, to_reach=0.72),
    "routellm_mmlu_unseen_subjects": OutcomeSet(
        Yardstick("MMLU, unseen subjects", BY_DOMAIN, to_reach=0.63),
        (MMLU,),
        partial(by_domain, MMLU),
    ),
    "routellm_gsm8k": one_file(GSM8K, "GSM8K", published=0.622, to_reach=0.66),
    "routellm_mtbench": OutcomeSet(
        Yardstick(
            "MT-Bench, zero-shot",
            ZERO_SHOT,
            published=0.802,
            to_reach=0.80,
            scores=f"a judge's grades; success is {JUDGED_SUCCESS} or more",
        ),
        (MMLU, GSM8K, MT_BENCH),
        partial(zero_shot, (MMLU, GSM8K), MT_BENCH),
    ),
    "llmrouter_mix": one_file(
        OutcomeFile("llmrouter_mix"), "mix of 14 tasks (LLMRouter)", domains_known=True
    ),
    "zeroeval_crux": one_file(OutcomeFile("zeroeval_crux"), "code (CRUX, ZeroEval)"),
    "zeroeval_mathl5": one_file(OutcomeFile("zeroeval_mathl5"), "mathematics (MATH-L5, ZeroEval)"),
    "arena_votes": one_file(
        OutcomeFile("arena_votes"),
        "votes of Chatbot Arena",
        scores="1 for the winner, and for both in a tie; the models differ between rows",
    ),
}


if __name__ == "__main__":
    sys.exit(main())
