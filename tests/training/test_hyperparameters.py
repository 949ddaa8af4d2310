"""Additions of the budget "thorough": tuned settings, a fine-tuned encoder, resuming."""

import json
from dataclasses import replace

import numpy as np
import pytest

from querytier.classifier.model.encoder import load_encoder
from querytier.training.checkpoints import Checkpoints
from querytier.training.hyperparameters import Search
from querytier.training.learners import BoostedTrees, LinearLearner
from querytier.training.model_selection import cross_validate
from querytier.training.recipes import Recipe
from training_rows import rows_with_gain

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
    return rows_with_gain(150)


LINEAR = LinearLearner(("minilm",), 0.01)
TREES = BoostedTrees(("minilm",), iterations=50, rows_per_leaf=10)


def compared(rows, recipes, **others):
    return cross_validate(rows, recipes, folds=3, seed=0, baselines={}, **others)


def test_a_tuned_learner_is_added_and_stacked(rows, tmp_path):
    hopeless = BoostedTrees(("minilm",), iterations=50, rows_per_leaf=90)  # more than half of them
    recipes = [Recipe((one,), "gain") for one in (LINEAR, hopeless)]
    found = compared(rows, recipes, search=Search(tmp_path / "search.journal", 4, 0))
    assert [one.name for one in found[:2]] == [recipe.name for recipe in recipes]
    assert found[1].mean == 0.5
    trees = next(one for one in found[2:] if [it.family for it in one.recipe.learners] == ["trees"])
    assert trees.mean > 0.5
    assert found[-1].recipe.learners[1] == trees.recipe.learners[0]


def test_a_search_is_repeatable(rows, tmp_path):
    found = [
        compared(rows, [Recipe((LINEAR,), "gain")], search=Search(tmp_path / name, 4, 0))[-1].name
        for name in ("one", "other", "one")
    ]
    assert len(set(found)) == 1


def test_an_interrupted_cross_validation_resumes(rows, tmp_path, monkeypatch):
    recipes = [Recipe((one,), "gain") for one in (LINEAR, TREES)]
    whole = compared(rows, recipes)
    fits = []
    fitted = BoostedTrees.fit

    def interrupted(learner, train):
        fits.append(learner)
        if len(fits) == 2:
            raise KeyboardInterrupt
        return fitted(learner, train)

    monkeypatch.setattr(BoostedTrees, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compared(rows, recipes, checkpoints=Checkpoints.open(tmp_path, {}))
    monkeypatch.setattr(LinearLearner, "fit", lambda *_: pytest.fail("fitted again"))
    again = compared(rows, recipes, checkpoints=Checkpoints.open(tmp_path, {}))
    for one, other in zip(again, whole, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)


def test_learners_of_one_name_have_checkpoints_of_their_own(rows, tmp_path):
    """The name of boosted trees states only their number, so a search mixed up their scores."""
    one, other = (Recipe((replace(TREES, leaves=leaves),), "gain") for leaves in (3, 24))
    assert one.name == other.name
    checkpoints = Checkpoints.open(tmp_path, {})
    for recipe in (one, other):
        saved = compared(rows, [recipe], checkpoints=checkpoints)[0].scores
        np.testing.assert_array_equal(saved, compared(rows, [recipe])[0].scores)


@pytest.mark.slow
def test_a_thorough_run_leaves_no_checkpoints(scored_log, scored_map, tmp_path, call):
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
