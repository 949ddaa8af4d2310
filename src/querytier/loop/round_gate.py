"""The gate of a round: compare challenger and champion on fresh rows, and on frozen ones.

*Fresh* are the test rows that arrived after the champion was made, *frozen* the ones recorded
before; neither artifact has learned from either. Fresh rows show today's traffic, so they get all
checks of `querytier gate`. On frozen rows the only check is that quality drops by no more than
`retrain.frozen_margin`: if the traffic has changed, old labels no longer measure calibration. Fresh
rows stay fresh as long as the champion stays, so evidence adds up over weeks that bring few rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from querytier.eval.gate.checks import Gate
from querytier.files import write_json
from querytier.loop.contenders import PairedScores, load_challenger, load_champion, unseen_test_rows
from querytier.loop.fresh_data import record_of
from querytier.loop.gate import GATE
from querytier.loop.rounds import Round
from querytier.pipeline.param_sections import GateParams
from querytier.pipeline.params import Params
from querytier.tracking.tracker import Tracker

__all__ = ["run_round_gate"]


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


def _part(
    scores: PairedScores, params: GateParams, name: str, gate: Callable[[PairedScores], Gate]
) -> dict[str, Any]:
    """Return the result on one part of the rows; `gate` is called if there are enough of them."""
    count = len(scores.examples)
    rows = {"rows": count, "groups": len(set(scores.examples.group.tolist()))}
    if count < params.fewest_rows:
        reason = f"{count} {name} test rows; a comparison needs {params.fewest_rows}"
        # Without fresh rows nothing is known about today's traffic, so the champion stays; without
        # frozen rows there is nothing that the challenger could lose.
        passed = {"passed": name == "frozen", "reason": f"{reason} (gate.fewest_rows)"}
        return {**rows, **passed, "checks": [], "served": {}}
    return {**rows, **gate(scores).to_dict(), "served": scores.as_served(params)}
