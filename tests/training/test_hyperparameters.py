"""What the budget "thorough" adds: a search of settings, a fine-tuned encoder, going on."""

import json

import numpy as np
import pytest

from querytier.classifier.model.encoder import load_encoder
from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.labelling import LabelRules
from querytier.training.baselines import LabelledFeatures
from querytier.training.checkpoints import Checkpoints
from querytier.training.hyperparameters import Search
from querytier.training.learners import BoostedTrees, LinearLearner
from querytier.training.model_selection import cross_validate
from querytier.training.recipes import Recipe

NAMED = "tuned_stack_linear+terms+trees_by_gain"
PARAMS = f"""
train:
  budget: thorough
  encoder: {{encoder}}
  search_trials: 2
  folds: 3
  regularisation: [0.01]
  candidate: {NAMED}
evaluate: {{{{bootstrap: 100, latency_decisions: 5}}}}
"""


@pytest.fixture(scope="module")
def rows():
    """Return rows whose gain follows from the first coordinate, with noise."""
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(150, 4)).astype(np.float32)
    better = embeddings[:, 0] + random.normal(size=150) > 0
    examples = [
        example_from(
            {"query": f"q {n}", "cheap_score": 0, "frontier_score": int(ok), "group": n},
            LabelRules(),
            str(n),
        )
        for n, ok in enumerate(better)
    ]
    return LabelledFeatures(Examples.of(examples), {"minilm": embeddings})


def test_a_search_adds_what_it_found_and_stacks_it(rows, tmp_path):
    hopeless = BoostedTrees(("minilm",), iterations=50, rows_per_leaf=90)  # more than half of them
    recipes = [Recipe((one,), "gain") for one in (LINEAR, hopeless)]
    found = judged(rows, recipes, search=Search(tmp_path / "search.journal", 4, 0))
    assert [one.name for one in found[:2]] == [recipe.name for recipe in recipes]
    assert found[1].mean == 0.5
    trees = next(one for one in found[2:] if [it.family for it in one.recipe.learners] == ["trees"])
    assert trees.mean > 0.5
    assert found[-1].recipe.learners[1] == trees.recipe.learners[0]


def test_a_search_is_the_same_again(rows, tmp_path):
    found = [
        judged(rows, [Recipe((LINEAR,), "gain")], search=Search(tmp_path / name, 4, 0))[-1].name
        for name in ("one", "other", "one")
    ]
    assert len(set(found)) == 1


def test_an_interrupted_cross_validation_goes_on_and_says_the_same(rows, tmp_path, monkeypatch):
    recipes = [Recipe((one,), "gain") for one in (LINEAR, TREES)]
    whole = judged(rows, recipes)
    fits = []
    fitted = BoostedTrees.fit

    def interrupted(learner, train):
        fits.append(learner)
        if len(fits) == 2:
            raise KeyboardInterrupt
        return fitted(learner, train)

    monkeypatch.setattr(BoostedTrees, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        judged(rows, recipes, checkpoints=Checkpoints.open(tmp_path, {}))
    monkeypatch.setattr(LinearLearner, "fit", lambda *_: pytest.fail("fitted again"))
    again = judged(rows, recipes, checkpoints=Checkpoints.open(tmp_path, {}))
    for one, other in zip(again, whole, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.slow
def test_a_thorough_run_searches_fine_tunes_exports_and_leaves_nothing_unfinished(
    scored_log, scored_map, tmp_path, call
):
    folder, out = tmp_path / "encoder", tmp_path / "out"
    load_encoder(layers=1).model.save_pretrained(str(folder), create_model_card=False)
    params = tmp_path / "params.yaml"
    params.write_text(PARAMS.format(encoder=folder))
    code, _, errors = call("run", scored_log, "--map", scored_map, "--params", params, "--out", out)
    assert code == 0, errors
    fitted = json.loads((out / "train" / "fitted.json").read_text())
    names = [one["name"] for one in fitted["candidates"]]
    encoders = {name.split("_")[0].split("+")[0] for name in names}
    assert {"tuned", "tuned-outputs", "named", "static", "minilm3", "minilm"} <= encoders
    assert len([name for name in names if name.startswith("minilm_C")]) == 2  # one was found
    manifest = json.loads((out / "model" / "manifest.json").read_text())
    assert manifest["metrics"]["chosen"] == NAMED
    assert manifest["encoder"]["name"] == "encoder-fine-tuned-gain"
    assert "tuned-outputs" in manifest["encoder"]["blocks"]
    assert (out / "search.journal").is_file()
    assert not (out / "unfinished").exists()
    assert not (out / "checkpoints").exists()


LINEAR = LinearLearner(("minilm",), 0.01)
TREES = BoostedTrees(("minilm",), iterations=50, rows_per_leaf=10)


def judged(rows, recipes, **others):
    return cross_validate(rows, recipes, folds=3, seed=0, baselines={}, **others)
