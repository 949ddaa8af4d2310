"""Story B: a new tenant floods the router and reports the opposite of every outcome.

Real processes, as in story A. Retraining holds back the rows of the tenant. With the audit of fresh
labels switched off, the gate alone keeps the champion. `make story-poison` takes three minutes.
"""

import json
import sys
from pathlib import Path
from typing import Any

from accounting import account, account_table
from population import Population
from router import Attack, Router, serving
from stage import QUICK, Stage, run_story
from story_drift import champion_of, fresh

from querytier.data.examples import Examples
from querytier.serve import Router as Decider

FIRST, POISONED, LATER = 1200, 2400, 600
ATTACK = Attack("mallory", share=0.6)
NO_AUDIT = "audit_fresh: {enabled: false}\n"


def play(stage: Stage) -> int:
    """Play the story from the first log to the final account."""
    population = Population(11)
    log = stage.write_first_log(population, FIRST, days_ago=2)
    stage.say(f"a log of {FIRST} queries with the scores of both tiers, two days old")
    first = stage.retrain("--logs", log)
    stage.check("the first champion is promoted", holds=first["verdict"] == "promoted")
    with serving(champion_of(stage), stage.folder, "--watch", "0.5") as url:
        stage.say(f"the champion serves at {url}")
        with Router(url, population) as router:
            served = router.wait_for(100)[-1].model_version
            poison(stage, router, served)
            later = router.wait_for(LATER)
        answered = len(router.answered)
        stage.check(f"all {answered} requests were answered", holds=router.unanswered == 0)
    honest = [one for one in later if one.query.tenant != ATTACK.tenant]
    before = Decider.load(stage.loop / "rounds" / "0001" / "model")
    accounts = account(honest, before)
    print("\n" + account_table(accounts) + "\n")
    lead = accounts[1].lead
    unharmed = lead is not None and lead.low is not None and lead.low > -0.03
    stage.check("honest tenants are served at most 0.03 worse than before", holds=unharmed)
    return stage.end()


def poison(stage: Stage, router: Router, served: str) -> None:
    """Flood the logs, and retrain on them twice, without and with the audit."""
    router.attack = ATTACK
    stage.say(f"tenant {ATTACK.tenant} floods: {ATTACK.share:.0%} of the traffic, labels reversed")
    router.wait_for(POISONED)
    router.catch_up()
    router.attack = None
    with router.slowly():
        stage.say("first with the audit switched off: only the gate protects the champion")
        stage.with_params(QUICK + NO_AUDIT)
        alone = stage.retrain(*fresh(stage), loop=stage.copied_loop())
        stage.check("the gate alone keeps the champion", holds=alone["verdict"] == "kept")
        stage.say("then with the audit switched on")
        stage.with_params(QUICK)
        verdict = stage.retrain(*fresh(stage))
        stage.check(
            "nearly all rows of the tenant are held back, and no others",
            holds=only_the_attacker(stage, verdict),
        )
    now = router.wait_for(50)[-1].model_version
    stays = now == served
    stage.say(f"verdict {verdict['verdict']}: {'the champion stays' if stays else f'{now} serves'}")


def only_the_attacker(stage: Stage, verdict: dict[str, Any]) -> bool:
    """Return whether only the attacker's rows are held back, and nearly all of them."""
    folder = stage.loop / "rounds" / verdict["round"]
    held = held_back(folder)
    record = Examples.read_parquet(folder / "data" / "record.parquet")
    passed = int((record.source == ATTACK.tenant).sum())
    theirs = sum(source == ATTACK.tenant for source in held)
    stage.say(f"held back: {theirs} rows of {ATTACK.tenant}, {len(held) - theirs} other rows")
    return theirs > 0 and theirs == len(held) and passed <= 0.05 * theirs


def held_back(folder: Path) -> list[str]:
    """Return the source of each row that a round has held back."""
    found = sorted(folder.rglob("held_back.jsonl"))
    lines = found[0].read_text("utf-8").splitlines() if found else []
    return [json.loads(line)["source"] for line in lines]


if __name__ == "__main__":
    sys.exit(run_story(play, __doc__))
