"""Score queries with LiteLLM's two local scorers: the keyword complexity router and its successor.

Runs in LiteLLM's environment (`make bench-heuristics` calls it), without querytier:

    python litellm_scores.py QUERIES.json SCORES.json

The first file maps ids to queries; the second contains LiteLLM's version and, by scorer and id, the
score (higher is harder), the tier and the milliseconds.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

__all__ = ["SCORERS", "TIERS"]

TIERS = ("SIMPLE", "MEDIUM", "COMPLEX", "REASONING")
SCORERS = ("litellm_complexity", "litellm_heuristic_v2")

Scored = tuple[float, str]


def main() -> int:
    """Score the queries in the first file, and write the second."""
    queries_file, scores_file = map(Path, sys.argv[1:])
    # Otherwise LiteLLM downloads a price table when it is imported.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    queries = json.loads(queries_file.read_text("utf-8"))
    scorers = dict(zip(SCORERS, (complexity(), success_predictor()), strict=True))
    content = {
        "version": version("litellm"),
        **{
            name: {identity: timed(scorer, query) for identity, query in queries.items()}
            for name, scorer in scorers.items()
        },
    }
    scores_file.write_text(json.dumps(content), "utf-8")
    return 0


def complexity() -> Callable[[str], Scored]:
    """Return the keyword scorer of `auto_router/complexity_router`, as configured by default."""
    from litellm import Router
    from litellm.router_strategy.complexity_router import ComplexityRouter

    router = ComplexityRouter("benchmark", Router())

    def scored(query: str) -> Scored:
        tier, score, _ = router.classify(query)
        return score, tier.value

    return scored


def success_predictor() -> Callable[[str], Scored]:
    """Return `heuristic_v2` with the bundled statistics; the score is P(the simple tier fails)."""
    from litellm.router_strategy.adaptive_router.classifier import classify_prompt
    from litellm.router_strategy.complexity_router.tier_predictor import (
        TierSuccessPredictor,
        resolve_tier_artifact,
    )

    predictor = TierSuccessPredictor(resolve_tier_artifact("ultrafeedback"))

    def scored(query: str) -> Scored:
        prediction = predictor.predict(query, classify_prompt(query))
        return 1 - prediction.probabilities[1], TIERS[prediction.required_tier - 1]

    return scored


def timed(scorer: Callable[[str], Scored], query: str) -> dict[str, float | str]:
    """Score a query, and measure the time."""
    started = time.perf_counter()
    score, tier = scorer(query)
    return {"score": score, "tier": tier, "ms": 1000 * (time.perf_counter() - started)}


if __name__ == "__main__":
    sys.exit(main())
