"""Story A: queries become harder under a running service, drift is found, retraining repairs it.

Real processes: `querytier serve` keeps deciding while `querytier drift` and `querytier
retrain` run; `make story-drift`, about three minutes on two cores.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from accounting import Account, account, account_table
from population import Population
from router import Answered, Router, serving
from stage import QUICK, Stage, run_story

from querytier.serve import Router as Decider

FIRST, BEFORE, AFTER, LATER = 1200, 400, 1800, 1200
# Rows older than the window are from before the shift: they are used neither to train nor to test.
PARAMS = f"{QUICK}retrain: {{window_days: 30}}\n"


def play(stage: Stage) -> int:
    """Run the story from the first log to the final account."""
    population = Population(11)
    log = stage.write_first_log(population, FIRST, days_ago=60)
    stage.say(f"a log of {FIRST} queries with both tiers' scores, two months old")
    first = stage.retrain("--logs", log)
    stage.check("the first champion is promoted", holds=first["verdict"] == "promoted")
    with serving(champion_of(stage), stage.folder, "--watch", "0.5") as url:
        stage.say(f"the champion serves at {url}; the router now sends it queries continuously")
        with Router(url, population) as router:
            later, before = shift(stage, router, population)
        answered = router.answered
        stage.check(
            f"all {len(answered)} requests were answered, even during the reload",
            holds=router.unanswered == 0,
        )
    accounts = account(later, Decider.load(before))
    print("\n" + account_table(accounts) + "\n")
    check_accounts(stage, accounts)
    return stage.end()


def shift(stage: Stage, router: Router, population: Population) -> tuple[list[Answered], Path]:
    """Shift the difficulty; return the answers after the reload, and the old champion's folder."""
    served = router.wait_for(BEFORE)[-1].model_version
    router.catch_up()
    with router.slowly():
        stage.querytier("drift", *compared(stage, "before"))
    stage.check("no drift before the shift", holds=not drifted(stage, "before"))
    before = stage.loop / "rounds" / "0001" / "model"
    population.shifted = True
    since = now()
    stage.say("the difficulty shifts: orders and accounts become hard, contracts easy")
    router.wait_for(AFTER)
    router.catch_up()
    with router.slowly():
        stage.querytier("drift", *compared(stage, "after"), "--since", since)
        stage.check("drift is found after it", holds=drifted(stage, "after"))
        decision = stage.retrain(*fresh(stage))
    stage.check("the gate promotes the challenger", holds=decision["verdict"] == "promoted")
    version = router.wait_for_model(served, 30)
    stage.check(f"the service reloads ({served} -> {version})", holds=version != served)
    return [one for one in router.wait_for(LATER) if one.model_version == version], before


def check_accounts(stage: Stage, accounts: list[Account]) -> None:
    """Check that the served decisions beat the other policies."""
    for one in accounts[1:4]:
        assert one.lead is not None
        low = one.lead.low
        stage.check(f"better than {one.name}, beyond chance", holds=low is not None and low > 0)


def drifted(stage: Stage, name: str) -> bool:
    """Return whether a comparison found drift."""
    found = json.loads((stage.folder / f"drift-{name}" / "drift.json").read_text())
    return bool(found["drifted"])


def champion_of(stage: Stage) -> str:
    """Return the path that the service loads: a link to the champion."""
    return str(stage.loop / "champion")


def compared(stage: Stage, name: str) -> list[object]:
    """Return the arguments that compare the traffic with the training data."""
    out = stage.folder / f"drift-{name}"
    return [stage.loop / "rounds" / "0001", *fresh(stage), "--out", out]


def fresh(stage: Stage) -> list[object]:
    """Return the arguments that name the service's logs."""
    logs = stage.folder / "logs"
    return ["--logs", logs / "decisions.jsonl", "--scores", logs / "outcomes.jsonl"]


def now() -> str:
    """Return the time, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    sys.exit(run_story(play, __doc__, PARAMS))
