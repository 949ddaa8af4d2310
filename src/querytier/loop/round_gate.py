"""The gate of a round: challenger and champion on fresh rows, and on frozen ones.

*Fresh* are the test rows that came since the champion was made, *frozen* those that were recorded
by then; neither has learned from either. On fresh rows, which are what the traffic is like now, the
whole of `querytier gate` is asked. On frozen rows only one thing is: that no more quality is lost
than `retrain.frozen_margin`; where the traffic has changed, old labels are no measure of
calibration now. Fresh rows of rounds that kept the champion stay fresh, so that evidence adds up
when a week brings few.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.data.leakage import rows_id, seen_in_training
from querytier.eval.gate.checks import Gate
from querytier.eval.gate.comparisons import Contender, as_served
from querytier.eval.gate.non_inferiority import Margins, compare
from querytier.files import write_json
from querytier.loop.contenders import (
    Challenger,
    Champion,
    interleaved_latencies,
    load_challenger,
    load_champion,
)
from querytier.loop.fresh_data import record_of
from querytier.loop.rounds import Round
from querytier.pipeline.param_sections import GateParams
from querytier.pipeline.params import Params
from querytier.pipeline.scoring import ranking_by
from querytier.tracking.tracker import Tracker

__all__ = ["GATE", "judge"]

GATE = "gate.json"

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Bout:
    """Champion and challenger on all test rows that may be used."""

    examples: Examples
    champion: Contender
    challenger: Contender

    def where(self, mask: Mask) -> "_Bout":
        return _Bout(
            self.examples.where(mask), _rows(self.champion, mask), _rows(self.challenger, mask)
        )


def judge(round_: Round, champion_round: Round, params: Params, tracker: Tracker) -> None:
    """Compare the round's artifact with the champion's; the verdict is in `gate.json`.

    Each use is a run in MLflow, as with `querytier gate`.
    """
    challenger = load_challenger(round_.folder)
    champion = load_champion(champion_round.folder, challenger)
    test = challenger.test
    learned = champion.learned
    met = np.zeros(len(test), np.bool_) if learned is None else seen_in_training(test, learned)
    with tracker.start("retrain gate", params.gate.model_dump()):
        tracker.set_tags({"test_rows": rows_id(test)})
        bout = _bout(test.where(~met), champion, challenger, params.gate)
        old = np.isin(bout.examples.id.astype(str), record_of(champion_round).id.astype(str))
        again = tracker.registry().was_rolled_back(round_.model_version)
        fresh = _part(bout.where(~old), params.gate, None, rolled_back=again)
        frozen = _part(bout.where(old), params.gate, params.retrain.frozen_margin)
        passed = bool(fresh["passed"] and frozen["passed"])
        tracker.set_tags({"gate": "passed" if passed else "failed"})
        uses = tracker.count_runs("test_rows", rows_id(test))
    record = {"passed": passed, "reason": _reason(fresh, frozen), "met_before": int(met.sum())}
    parts = {"fresh": fresh, "frozen": frozen, "test_uses": uses}
    write_json(round_.folder / GATE, {**record, **parts})


def _bout(
    examples: Examples, champion: Champion, challenger: Challenger, params: GateParams
) -> _Bout:
    theirs = ranking_by(champion.router, examples, "champion")
    ours = ranking_by(challenger.router, examples, "challenger")
    queries = examples.query[: params.latency_queries].tolist()
    times = interleaved_latencies(champion.router, challenger.router, queries)
    return _Bout(
        examples,
        Contender(theirs, champion.manifest.threshold, times[0]),
        Contender(ours, challenger.manifest.threshold, times[1]),
    )


def _rows(contender: Contender, mask: Mask) -> Contender:
    ranking = contender.ranking
    probabilities = ranking.probabilities
    kept = None if probabilities is None else probabilities[mask]
    return replace(
        contender, ranking=replace(ranking, scores=ranking.scores[mask], probabilities=kept)
    )


def _part(
    bout: _Bout, params: GateParams, frozen_margin: float | None, *, rolled_back: bool = False
) -> dict[str, Any]:
    """Judge one part of the rows; with a margin, by quality alone."""
    rows = {"rows": len(bout.examples), "groups": len(set(bout.examples.group.tolist()))}
    if len(bout.examples) < params.fewest_rows:
        what = "fresh" if frozen_margin is None else "frozen"
        why = (
            f"{len(bout.examples)} {what} test rows; a comparison needs {params.fewest_rows} "
            "(gate.fewest_rows)"
        )
        # Without fresh rows nothing is known of now; without frozen ones there is nothing to lose.
        passed = frozen_margin is not None
        return {**rows, "passed": passed, "reason": why, "checks": [], "served": {}}
    gate = _gate(bout, params, frozen_margin)
    gate = gate.with_rollback() if rolled_back else gate
    return {**rows, **gate.to_dict(), "served": _served(bout, params)}


def _gate(bout: _Bout, params: GateParams, frozen_margin: float | None) -> Gate:
    margins = Margins(
        quality=frozen_margin or params.quality_margin,
        calibration=params.calibration_margin,
        worst_slice=params.slice_margin,
        latency=params.latency_margin,
    )
    gate = compare(
        bout.examples,
        bout.champion,
        bout.challenger,
        margins,
        superior_on=params.superior_on,
        fewest_slice_rows=params.fewest_slice_rows,
        replicates=params.bootstrap,
        seed=params.seed,
    )
    return gate if frozen_margin is None else Gate(gate.checks[:1], gate.note)


def _served(bout: _Bout, params: GateParams) -> dict[str, Any]:
    contenders = {"champion": bout.champion, "challenger": bout.challenger}
    return {
        name: {
            what: estimate.to_dict()
            for what, estimate in as_served(
                bout.examples, contender, params.bootstrap, params.seed
            ).items()
        }
        for name, contender in contenders.items()
    }


def _reason(fresh: Mapping[str, Any], frozen: Mapping[str, Any]) -> str:
    return f"fresh rows: {fresh['reason']}; frozen rows: {frozen['reason']}"
