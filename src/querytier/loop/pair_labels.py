"""Labels of another pair of models: read, and split into calibration and certification."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import EXAMPLES, SUMMARY, read_unsplit
from querytier.data.ingest.sources import LogSource
from querytier.data.leakage import seen_in_training
from querytier.data.splits import splits_of
from querytier.errors import LogError
from querytier.files import atomic_folder
from querytier.pipeline.param_sections import RecalibrateParams

__all__ = ["FEWEST_LABELS", "LEARNED", "PairLabels", "prepare_pair_labels"]

FEWEST_LABELS = 50
LEARNED = "learned.parquet"


@dataclass(frozen=True, eq=False)
class PairLabels:
    """Examples labelled with another pair of models.

    Attributes
    ----------
    examples : Examples
        With the splits calibration and certification.
    data : DataSummary
    set_aside : int
        Number of rows left out because the head was trained on their queries.
    known : Examples
        The train and calibration splits of the run, with the labels of the old pair.
    """

    examples: Examples
    data: DataSummary
    set_aside: int
    known: Examples


def prepare_pair_labels(
    run: Path, sources: Sequence[LogSource], out: Path, reading: Reading, section: RecalibrateParams
) -> PairLabels:
    """Read labels of a new pair, split them, and write them under `out/data`.

    Parameters
    ----------
    run : Path
        The --out folder of the old run. Queries that its head was trained on are set aside, because
        it is overconfident on them.
    sources : sequence of LogSource
    out : Path
    reading : Reading
    section : RecalibrateParams

    Raises
    ------
    LogError
        If the logs cannot be read, or fewer than `FEWEST_LABELS` rows are left.
    """
    examples, data = read_unsplit(sources, reading, out / "quarantine.jsonl")
    known = _known(run)
    met = seen_in_training(examples, known.of_split("train"))
    fresh = examples.where(~met)
    if len(fresh) < FEWEST_LABELS:
        raise LogError(
            f"{data.source}: {len(fresh)} labelled rows can calibrate and certify, because "
            f"the head was trained on the queries of {int(met.sum())} others; recalibrate "
            f"needs at least {FEWEST_LABELS}: label other queries with the new pair"
        )
    share, seed = section.certification_share, section.seed
    groups = np.array([int(group, 16) for group in fresh.group], dtype=np.uint64)
    # Stratified by label: with so few rows, chance could leave one half without a positive.
    splits = splits_of(groups, {"certification": share}, seed, fresh.needs_frontier)
    fresh = replace(fresh, split=np.where(splits == "train", "calibration", splits).astype(object))
    data = replace(DataSummary.of(fresh, data), unlabelled=data.unlabelled)
    with atomic_folder(out / "data") as folder:
        fresh.write_parquet(folder / EXAMPLES)
        # Kept, so that a recalibrated run can be recalibrated again.
        known.write_parquet(folder / LEARNED)
        data.write(folder / SUMMARY)
    return PairLabels(fresh, data, int(met.sum()), known)


def _known(run: Path) -> Examples:
    """Return the train and calibration splits of a run, or of the run that it recalibrated."""
    folder = run / "data"
    path = folder / (LEARNED if (folder / LEARNED).is_file() else EXAMPLES)
    return Examples.read_parquet(path).of_split("train", "calibration")
