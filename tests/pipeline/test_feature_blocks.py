"""Blocks of features: recipes choose among them, stages keep them, export reads them."""

import json

import numpy as np
import pytest

from querytier.classifier.model.encoder import load_encoder
from querytier.classifier.model.features import Features
from querytier.classifier.model.surface import surface_table
from querytier.classifier.model.terms import TermTable
from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.labelling import LabelRules
from querytier.pipeline.feature_blocks import FeatureBlocks, principal_components
from querytier.pipeline.params import TrainParams
from querytier.training.encoders.static import distil
from querytier.training.learners import BoostedTrees, LinearLearner
from querytier.training.recipes import Recipe


@pytest.fixture(scope="module")
def examples(scored_log):
    rows = [json.loads(line) for line in scored_log.read_text("utf-8").splitlines()[:60]]
    return Examples.of(
        [
            example_from({"query": row["prompt"], "needs_frontier": 0}, LabelRules(), str(n))
            for n, row in enumerate(rows)
        ]
    )


@pytest.fixture(scope="module")
def blocks(encoder, examples):
    """Return blocks of all encoders, the static one of a small vocabulary."""
    views = examples.views()
    static = distil(encoder, views, words=150, dimension=16, seed=0, epochs=0)
    features = {}
    encoders = {"minilm": encoder, "minilm3": load_encoder(layers=3), "static": static}
    for name, one in encoders.items():
        token_ids = [one.tokenizer.token_ids(view) for view in views]
        features[name] = Features(
            name,
            one,
            surface_table(one.tokenizer.json).fitted_to(token_ids),
            principal_components(one.encode(views)),
            TermTable.fitted_to(token_ids),
        )
    return FeatureBlocks(features)


def test_the_fastest_recipes_come_first(blocks, examples, encoder):
    recipes = blocks.recipes(examples, TrainParams(budget="standard"))
    assert list(dict.fromkeys(recipe.encoder for recipe in recipes)) == [
        "static",
        "minilm3",
        "minilm",
    ]
    labelled = blocks.labelled(examples)
    assert {name for recipe in recipes for name in recipe.blocks} <= set(labelled.blocks)
    assert labelled.embeddings.shape == (60, encoder.dimension)


@pytest.mark.parametrize("name", ["static", "minilm3", "minilm"])
def test_exported_features_are_those_that_the_heads_were_fitted_to(blocks, examples, name):
    learners = (
        LinearLearner((name, f"{name}-surface"), 1.0),
        LinearLearner((f"{name}-terms",), 1.0),
        BoostedTrees((f"{name}-components",)),
    )
    views = examples.views()
    labelled = blocks.labelled(examples)
    for learner in learners:
        recipe = Recipe((learner,), "p_frontier")
        read = blocks.of(recipe).of(views)
        assert set(read) == {name, *recipe.blocks}
        for block in recipe.blocks:
            one, other = (_dense(it[block]) for it in (read, labelled.blocks))
            np.testing.assert_allclose(one, other, atol=1e-5)


def _dense(block):
    return block if isinstance(block, np.ndarray) else block.toarray()


def test_blocks_are_read_back_unchanged(blocks, examples, tmp_path):
    blocks.write(tmp_path)
    again = FeatureBlocks.read(tmp_path).labelled(examples)
    for name, block in blocks.labelled(examples).blocks.items():
        np.testing.assert_array_equal(_dense(again.blocks[name]), _dense(block))


def test_the_budget_quick_has_no_static_encoder(examples):
    quick = FeatureBlocks.fitted_to(examples, TrainParams())
    recipes = quick.recipes(examples, TrainParams())
    assert {recipe.encoder for recipe in recipes} == {"minilm3", "minilm"}
    assert {recipe.learners[0].family for recipe in recipes} == {"linear", "terms", "trees"}


def test_fewer_layers_are_another_encoder_of_the_same_width(encoder):
    fewer = load_encoder(layers=3)
    assert fewer.name == "all-MiniLM-L6-v2-first-3-layers"
    ours, theirs = (one.encode(["Why is it so?"]) for one in (encoder, fewer))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() > 0.01
