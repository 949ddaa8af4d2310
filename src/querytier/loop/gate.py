"""The gate as it is asked: artifacts on the same held-out rows, and the verdict kept in MLflow."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from querytier.data.examples import Examples
from querytier.errors import UsageError
from querytier.eval.evaluation import evaluate_rankings
from querytier.eval.gate.checks import Gate, baseline_gate
from querytier.eval.gate.comparisons import Contender
from querytier.eval.gate.non_inferiority import Margins, compare
from querytier.eval.rankings import Ranking, keyword_scores
from querytier.files import atomic_file
from querytier.loop.contenders import (
    Challenger,
    Champion,
    JudgedRows,
    check_is_champion,
    interleaved_latencies,
    load_challenger,
    load_champion,
    rows_to_judge_on,
)
from querytier.pipeline.param_sections import GateParams
from querytier.pipeline.scoring import ranking_by
from querytier.tracking.registry import RegisteredVersion, Registry
from querytier.tracking.tracker import Tracker

__all__ = ["GATE", "Verdict", "ask_gate"]

GATE = "gate.json"


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the gate said of whom, on which rows.

    Attributes
    ----------
    gate : Gate
    challenger : Challenger
    champion : Champion or None
        None where baseline checks decided.
    rows : JudgedRows
    uses : int
        How often these test rows were used for a choice or shown in an evaluation, this time
        included.
    version : str
        The registered version of the challenger.
    stood : RegisteredVersion or None
        Which version was champion when the gate was asked.
    created : str
        UTC, ISO 8601.
    """

    gate: Gate
    challenger: Challenger
    champion: Champion | None
    rows: JudgedRows
    uses: int
    version: str
    stood: RegisteredVersion | None
    created: str

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict for JSON."""
        champion = self.champion
        return {
            "querytier": version("querytier"),
            "created": self.created,
            **self.gate.to_dict(),
            "challenger": {
                "folder": str(self.challenger.folder),
                "model_version": self.challenger.manifest.model_version,
                "version": self.version,
            },
            "champion": champion
            and {
                "folder": str(champion.folder),
                "model_version": champion.manifest.model_version,
                "learned_from": champion.known,
            },
            "registered_champion": self.stood and self.stood.model_version,
            "rows": self.rows.counts(),
            "test_rows": self.rows.name,
            "test_uses": self.uses,
        }


def ask_gate(challenger: Path, champion: Path | None, params: GateParams) -> Verdict:
    """Judge the artifact of a run; it becomes champion where it passes.

    Each use is a run in MLflow; how many have the same tag `test_rows` is how often the test rows
    were used. The verdict is in `gate.json` in the challenger's folder, too.

    Parameters
    ----------
    challenger : Path
        What `--out` of a run was.
    champion : Path or None
        The same, or an artifact. None where the registry has no champion: baseline checks decide.
    params : GateParams

    Raises
    ------
    UsageError
        If a folder is not what it has to be, the challenger is not registered, the champion is not
        the registry's, or too few rows are left.
    ArtifactError
        If an artifact does not load.
    """
    ours = load_challenger(challenger)
    theirs = None if champion is None else load_champion(champion, ours)
    tracker = Tracker.of(ours.run)
    registry = tracker.registry()
    registered = _registered(ours, registry)
    stood = registry.champion()
    check_is_champion(stood, ours, theirs)
    rows = rows_to_judge_on(ours, theirs, params.fewest_rows)
    with tracker.start("gate", params.model_dump()):
        tracker.set_tags({"test_rows": rows.name, **_model_versions(ours, theirs)})
        gate = _judged(rows.examples, ours, theirs, params)
        if registry.was_rolled_back(registered.model_version):
            gate = gate.with_rollback()
        uses = tracker.count_runs("test_rows", rows.name)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        verdict = Verdict(gate, ours, theirs, rows, uses, registered.number, stood, now)
        _write(verdict)
        _log(tracker, verdict)
    tracker.tag_run(ours.run.run_id, _tags(gate))
    registry.judge(registered.number, gate.passed, gate.reason, promoted=gate.passed)
    return verdict


def _registered(challenger: Challenger, registry: Registry) -> RegisteredVersion:
    model_version, folder = challenger.manifest.model_version, challenger.folder
    found = registry.version_of(model_version)
    if found is None:
        raise UsageError(
            f"model {model_version} of {folder} is not registered at "
            f"{challenger.run.tracking_uri}; run `querytier evaluate --out {folder}` first"
        )
    return found


def _judged(
    examples: Examples, challenger: Challenger, champion: Champion | None, params: GateParams
) -> Gate:
    ours = ranking_by(challenger.router, examples, "challenger")
    if champion is None:
        return _absolute(examples, ours, challenger, params)
    theirs = ranking_by(champion.router, examples, "champion")
    queries = examples.query[: params.latency_queries].tolist()
    their_times, our_times = interleaved_latencies(champion.router, challenger.router, queries)
    return compare(
        examples,
        Contender(theirs, champion.manifest.threshold, their_times),
        Contender(ours, challenger.manifest.threshold, our_times),
        Margins(
            quality=params.quality_margin,
            calibration=params.calibration_margin,
            worst_slice=params.slice_margin,
            latency=params.latency_margin,
        ),
        superior_on=params.superior_on,
        fewest_slice_rows=params.fewest_slice_rows,
        replicates=params.bootstrap,
        seed=params.seed,
    )


def _absolute(
    examples: Examples, ranking: Ranking, challenger: Challenger, params: GateParams
) -> Gate:
    keyword = Ranking("keyword_heuristic", keyword_scores(examples.query), None, "nothing")
    evaluation = evaluate_rankings(
        examples,
        ranking,
        [keyword],
        threshold=challenger.manifest.threshold,
        replicates=params.bootstrap,
        seed=params.seed,
    )
    return baseline_gate(evaluation)


def _model_versions(challenger: Challenger, champion: Champion | None) -> dict[str, str]:
    tags = {"challenger": challenger.manifest.model_version}
    if champion is not None:
        tags["champion"] = champion.manifest.model_version
    return tags


def _tags(gate: Gate) -> dict[str, str]:
    return {"gate": "passed" if gate.passed else "failed", "gate_reason": gate.reason}


def _write(verdict: Verdict) -> None:
    text = json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(verdict.challenger.folder / GATE) as scratch:
        scratch.write_text(text + "\n", "utf-8")


def _log(tracker: Tracker, verdict: Verdict) -> None:
    tracker.set_tags(_tags(verdict.gate))
    for check in verdict.gate.checks:
        name = check.name.replace(" ", "_")
        ends = {f"{name}_low": check.low, f"{name}_high": check.high}
        tracker.log_metrics({name: check.estimate, **ends, f"{name}_passed": float(check.passed)})
    tracker.log_metrics({"test_uses": float(verdict.uses)})
    tracker.log_files([verdict.challenger.folder / GATE])
