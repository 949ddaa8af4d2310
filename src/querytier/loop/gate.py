"""Compare a challenger with the champion: by `querytier gate`, and within a round of the loop.

A round has two kinds of test rows. *Fresh* rows arrived after the champion was made, *frozen* rows
were recorded before; neither artifact was trained on either. Fresh rows show today's traffic, so
they get all checks of `querytier gate`. On frozen rows the only check is that quality drops by no
more than `retrain.frozen_margin`: if the traffic has changed, old labels no longer measure
calibration. Fresh rows stay fresh as long as the champion stays, so evidence adds up over weeks
that bring few rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from querytier.errors import UsageError
from querytier.eval.evaluation import evaluate_rankings
from querytier.eval.gate.checks import Gate, baseline_gate
from querytier.eval.rankings import Ranking, keyword_scores
from querytier.files import stamp, write_json
from querytier.loop.contenders import (
    Challenger,
    Champion,
    PairedScores,
    UnseenRows,
    check_is_champion,
    load_challenger,
    load_champion,
    unseen_test_rows,
)
from querytier.loop.fresh_data import record_of
from querytier.loop.rounds import Round
from querytier.pipeline.param_sections import GateParams
from querytier.pipeline.params import Params
from querytier.pipeline.scoring import ranking_by
from querytier.tracking.registry import RegisteredVersion, Registry
from querytier.tracking.tracker import Tracker

__all__ = ["GATE", "GateResult", "run_gate", "run_round_gate"]

GATE = "gate.json"


@dataclass(frozen=True, eq=False)
class GateResult:
    """The gate's checks of a challenger, and the rows that they are based on.

    Attributes
    ----------
    gate : Gate
    challenger : Challenger
    champion : Champion or None
        None if the challenger was checked by itself.
    rows : UnseenRows
    uses : int
        Number of times that these test rows were used for a choice or shown in an evaluation,
        including this one.
    version : str
        The registered version of the challenger.
    current_champion : RegisteredVersion or None
        The registry's champion before the gate ran.
    """

    gate: Gate
    challenger: Challenger
    champion: Champion | None
    rows: UnseenRows
    uses: int
    version: str
    current_champion: RegisteredVersion | None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `gate.json`."""
        champion = self.champion
        return {
            **stamp(),
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
                "learned_from": champion.training_data,
            },
            "registered_champion": self.current_champion and self.current_champion.model_version,
            "rows": self.rows.counts(),
            "test_rows": self.rows.name,
            "test_uses": self.uses,
        }


def run_gate(challenger: Path, champion: Path | None, params: GateParams) -> GateResult:
    """Compare the artifact of a run with the champion; make it champion if all checks pass.

    The result is written to `gate.json` in the challenger's folder. Each call is also a run in
    MLflow with the tag `test_rows`; the number of runs with the same tag is the number of times
    that these test rows were used.

    Parameters
    ----------
    challenger : Path
        The run's `--out`.
    champion : Path or None
        The run's `--out`, or the folder of an artifact. None if the registry has no champion: the
        challenger is then checked by itself.
    params : GateParams

    Raises
    ------
    UsageError
        If a folder is not a run's, the challenger is not registered, the champion is not the
        registry's, or too few rows are left.
    ArtifactError
        If an artifact does not load.
    """
    ours = load_challenger(challenger)
    theirs = None if champion is None else load_champion(champion, ours)
    tracker = Tracker.of(ours.run)
    registry = tracker.registry()
    registered = _registered(ours, registry)
    current = registry.champion()
    check_is_champion(current, ours, theirs)
    # All refusals come above: from here on the test rows are used, and the use counts even if the
    # process dies before there is a result.
    rows = unseen_test_rows(ours, theirs, params.fewest_rows)
    with tracker.start("gate", params.model_dump()):
        tracker.set_tags({"test_rows": rows.name, "challenger": ours.manifest.model_version})
        if theirs is not None:
            tracker.set_tags({"champion": theirs.manifest.model_version})
            gate = PairedScores.of(rows.examples, theirs, ours, params).gate(params)
        else:
            gate = _baseline(rows, ours, params)
        if registry.was_rolled_back(registered.model_version):
            gate = gate.with_rollback()
        uses = tracker.count_runs("test_rows", rows.name)
        result = GateResult(gate, ours, theirs, rows, uses, registered.number, current)
        write_json(challenger / GATE, result.to_dict())
        _log(tracker, result)
    # After the block, because the challenger's own run cannot be open at the same time as the
    # gate's.
    tracker.tag_run(ours.run.run_id, _tags(gate))
    registry.record_gate(registered.number, passed=gate.passed, reason=gate.reason)
    return result


def run_round_gate(round_: Round, champion_round: Round, params: Params, tracker: Tracker) -> None:
    """Compare the round's artifact with the champion's, and write the result to `gate.json`.

    Each call is a run in MLflow, as with `querytier gate`.
    """
    challenger = load_challenger(round_.folder)
    champion = load_champion(champion_round.folder, challenger)
    rows = unseen_test_rows(challenger, champion)
    with tracker.start("retrain gate", params.gate.model_dump()):
        tracker.set_tags({"test_rows": rows.name})
        scores = PairedScores.of(rows.examples, champion, challenger, params.gate)
        frozen_ids = record_of(champion_round).id.astype(str)
        is_frozen = np.isin(rows.examples.id.astype(str), frozen_ids)
        rolled_back = tracker.registry().was_rolled_back(round_.model_version)

        def on_fresh(part: PairedScores) -> Gate:
            gate = part.gate(params.gate)
            return gate.with_rollback() if rolled_back else gate

        def on_frozen(part: PairedScores) -> Gate:
            gate = part.gate(params.gate, params.retrain.frozen_margin)
            return Gate(gate.checks[:1], gate.note)  # the first check is quality at matched cost

        fresh = _part(scores.where(~is_frozen), params.gate, "fresh", on_fresh)
        frozen = _part(scores.where(is_frozen), params.gate, "frozen", on_frozen)
        passed = bool(fresh["passed"] and frozen["passed"])
        tracker.set_tags({"gate": "passed" if passed else "failed"})
        uses = tracker.count_runs("test_rows", rows.name)
    result = {
        "passed": passed,
        "reason": f"fresh rows: {fresh['reason']}; frozen rows: {frozen['reason']}",
        "met_before": rows.left_out,
        "fresh": fresh,
        "frozen": frozen,
        "test_uses": uses,
    }
    write_json(round_.folder / GATE, result)


def _registered(challenger: Challenger, registry: Registry) -> RegisteredVersion:
    model_version, folder = challenger.manifest.model_version, challenger.folder
    found = registry.version_of(model_version)
    if found is None:
        raise UsageError(
            f"model {model_version} of {folder} is not registered at "
            f"{challenger.run.tracking_uri}; run `querytier evaluate --out {folder}` first"
        )
    return found


def _baseline(rows: UnseenRows, challenger: Challenger, params: GateParams) -> Gate:
    examples = rows.examples
    evaluation = evaluate_rankings(
        examples,
        ranking_by(challenger.router, examples, "challenger"),
        [Ranking("keyword_heuristic", keyword_scores(examples.query), None, "nothing")],
        threshold=challenger.manifest.threshold,
        replicates=params.bootstrap,
        seed=params.seed,
    )
    return baseline_gate(evaluation)


def _tags(gate: Gate) -> dict[str, str]:
    return {"gate": "passed" if gate.passed else "failed", "gate_reason": gate.reason}


def _log(tracker: Tracker, result: GateResult) -> None:
    tracker.set_tags(_tags(result.gate))
    for check in result.gate.checks:
        name = check.name.replace(" ", "_")
        ends = {f"{name}_low": check.low, f"{name}_high": check.high}
        tracker.log_metrics({name: check.estimate, **ends, f"{name}_passed": float(check.passed)})
    tracker.log_metrics({"test_uses": float(result.uses)})
    tracker.log_files([result.challenger.folder / GATE])


def _part(
    scores: PairedScores, params: GateParams, name: str, gate: Callable[[PairedScores], Gate]
) -> dict[str, Any]:
    """Return the result on one part of the rows; call `gate` if there are enough of them."""
    count = len(scores.examples)
    rows = {"rows": count, "groups": len(set(scores.examples.group.tolist()))}
    if count < params.fewest_rows:
        reason = f"{count} {name} test rows; a comparison needs {params.fewest_rows}"
        # Without fresh rows nothing is known about today's traffic, so the champion stays; without
        # frozen rows the challenger has no old quality to lose.
        passed = {"passed": name == "frozen", "reason": f"{reason} (gate.fewest_rows)"}
        return {**rows, **passed, "checks": [], "served": {}}
    return {**rows, **gate(scores).to_dict(), "served": scores.as_served(params)}
