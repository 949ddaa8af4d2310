"""A router in twenty lines: choose a model by querytier's decision.

python examples/route.py artifacts/model "Where is my order?" "Prove that the bound is tight."
"""

import sys

from querytier.serve import Router

MODELS = {"cheap": "small-model", "frontier": "frontier-model"}


def main(artifact: str, *queries: str) -> None:
    """Print the model of each query, and the reason."""
    router = Router.load(artifact)
    for query in queries:
        decision = router.decide(query)
        print(f"{MODELS[decision.tier]}\t{decision.reason}\t{query}")


if __name__ == "__main__":
    main(*sys.argv[1:])
