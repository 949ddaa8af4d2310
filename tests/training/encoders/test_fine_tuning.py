"""Fine-tuning, on an encoder of one tiny layer."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from blank import blank_example
from querytier.classifier.export.onnx_graph import trace, write_graph
from querytier.classifier.model.encoder import open_encoder
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Heads, Member
from querytier.classifier.model.nets import Linear
from querytier.data.examples import Examples
from querytier.errors import TrainingError, UsageError
from querytier.training.checkpoints import Checkpoints
from querytier.training.encoders.fine_tuning import fine_tune, read_fine_tuned, write_fine_tuned
from querytier.training.encoders.out_of_fold import fine_tune_out_of_fold
from querytier.training.encoders.static import static_encoder
from querytier.training.encoders.trainer import FineTuneSettings
from querytier.training.folds import group_folds

HARD = ["prove", "derive", "optimise", "theorem", "integral", "refute"]
EASY = ["hello", "thanks", "hours", "price", "colour", "open"]
FILLER = ["please", "the", "for", "me", "a", "now", "about", "tell"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *HARD, *EASY, *FILLER]
SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
NAN = float("nan")
QUICK = {"epochs": 3, "batch_size": 8, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tuned(tiny):
    """Return the encoder after one epoch on 60 queries."""
    return tune(tiny, queries(60), epochs=1)


@pytest.fixture(scope="module")
def out_of_fold(tiny, tmp_path_factory):
    """Return an encoder that was fine-tuned on two folds, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("checkpoints")
    rows, checkpoints = queries(100, cheap_score=NAN), Checkpoints.open(folder, {})
    settings = settings_of(epochs=1)
    return fine_tune_out_of_fold(tiny, rows, settings, folds=2, checkpoints=checkpoints), folder


def tiny_encoder(folder, layers=1):
    from transformers import BertConfig, BertModel

    sizes = SIZES | {"num_hidden_layers": layers, "max_position_embeddings": 32}
    return encoder_around(BertModel, BertConfig(**sizes), folder)


def encoder_around(transformer_class, config, folder):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertTokenizerFast

    torch.manual_seed(0)
    transformer_class(config).save_pretrained(folder)
    BertTokenizerFast(vocab={word: n for n, word in enumerate(VOCABULARY)}).save_pretrained(folder)
    transformer = Transformer(str(folder))
    modules = [transformer, Pooling(32), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(
        str(folder), create_model_card=False
    )
    return replace(open_encoder(str(folder)), name="tiny", max_tokens=8)


def settings_of(**others):
    return FineTuneSettings(**QUICK | others)


def tune(encoder, rows, *, checkpoint=None, **others):
    return fine_tune(encoder, rows, settings_of(**others), checkpoint=checkpoint)


def queries(count, seed=0, split="train", **values):
    """Return queries, every other one hard by its words; two in three have scores."""
    random = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        need = n % 2
        telling = random.choice(HARD if need else EASY, size=2)
        words = random.permutation([*telling, *random.choice(FILLER, size=4)])
        given = {
            "id": f"{split}{n}",
            "query": " ".join(words),
            "needs_frontier": float(need),
            "group": f"{split}{n}",
            "cheap_score": 1.0 - need if n % 3 else NAN,
            "frontier_score": 1.0,
            "split": split,
        }
        rows.append(blank_example(**given | values))
    return Examples.of(rows)


def separation(encoder, examples):
    """Return the mean cosine between queries of one label minus that between labels."""
    embeddings = encoder.encode(list(examples.query))
    same = examples.needs_frontier[:, None] == examples.needs_frontier
    likeness = embeddings @ embeddings.T
    return float(likeness[same].mean() - likeness[~same].mean())


def steps(folder):
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))


def layer_weights(encoder):
    layers = encoder.model.transformers_model.encoder.layer
    return [layer.output.dense.weight.detach().numpy() for layer in layers]


@pytest.mark.parametrize("objective", ["need", "gain", "contrastive"])
def test_unseen_queries_of_one_label_move_closer_together(tiny, objective):
    unseen = queries(60, seed=1, split="test")
    before = separation(tiny, unseen)
    tuned = tune(tiny, queries(120), objective=objective)
    assert tuned.name == f"tiny-fine-tuned-{objective}"
    assert separation(tuned, unseen) > before + 0.2
    assert separation(tiny, unseen) == before


def test_without_scores_the_gain_is_learnt_from_labels(tiny):
    unseen = queries(60, seed=1, split="test")
    tuned = tune(tiny, queries(120, cheap_score=NAN), objective="gain")
    assert separation(tuned, unseen) > separation(tiny, unseen) + 0.2


def test_the_end_of_a_long_query_is_read_as_in_serving(tiny):
    """The labels differ only after the first `max_tokens` tokens."""
    rows = queries(120)
    for n, query in enumerate(rows.query):
        telling = [word for word in query.split() if word not in FILLER]
        rows.query[n] = " ".join(FILLER * 2 + telling)
    tuned = tune(tiny, rows)
    assert separation(tuned, rows) > separation(tiny, rows) + 0.2


def test_rows_count_by_their_weight(tiny):
    unseen = queries(60, seed=1, split="test")
    right, wrong = queries(120), queries(120, seed=2, weight=1e-6)
    wrong.needs_frontier[:] = 1 - wrong.needs_frontier
    tuned = tune(tiny, Examples.concatenated([right, wrong]))
    assert separation(tuned, unseen) > separation(tiny, unseen) + 0.2


def test_weights_depend_only_on_the_training_split_and_the_seed(tiny, tuned):
    others = [
        queries(60, seed=3, split=split) for split in ("calibration", "certification", "test")
    ]
    unlabelled = queries(5, seed=4, needs_frontier=NAN)
    rows = Examples.concatenated([queries(60), *others, unlabelled])
    assert tune(tiny, rows, epochs=1).weights_sha256 == tuned.weights_sha256
    assert tune(tiny, queries(60), epochs=1, seed=1).weights_sha256 != tuned.weights_sha256


def test_only_the_named_layers_are_kept(tmp_path):
    whole = tiny_encoder(tmp_path / "whole", layers=3)
    hardly = {"epochs": 1, "learning_rate": 1e-9}
    tuned = tune(whole, queries(60), keep_layers=(0, 2), **hardly)
    before, after = layer_weights(whole), layer_weights(tuned)
    assert (len(before), len(after)) == (3, 2)
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
    np.testing.assert_allclose(after[1], before[2], atol=1e-6)
    write_fine_tuned(tuned, tmp_path / "tuned")
    assert read_fine_tuned(tmp_path / "tuned").weights_sha256 == tuned.weights_sha256


def test_layer_types_follow_the_layers_kept(tmp_path):
    from transformers import ModernBertConfig, ModernBertModel

    special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
    special |= {"bos_token_id": 2, "eos_token_id": 3}
    config = ModernBertConfig(**SIZES, num_hidden_layers=3, **special)
    whole = encoder_around(ModernBertModel, config, tmp_path / "whole")
    tuned = tune(whole, queries(60), keep_layers=(0, 2), epochs=1)
    write_fine_tuned(tuned, tmp_path / "tuned")
    again = read_fine_tuned(tmp_path / "tuned").model.transformers_model.config
    kinds = whole.model.transformers_model.config.layer_types
    assert again.layer_types == [kinds[0], kinds[2]]


@pytest.mark.parametrize("objective", ["need", "contrastive"])
def test_an_interrupted_run_reaches_the_same_weights(tiny, tmp_path, objective):
    call = {"objective": objective, "checkpoint": tmp_path, "epochs": 1}
    whole = tune(tiny, queries(60), **call)
    before, last = steps(tmp_path)
    assert before < last
    (tmp_path / f"checkpoint-{last}" / "trainer_state.json").unlink()
    assert tune(tiny, queries(60), **call).weights_sha256 == whole.weights_sha256
    assert steps(tmp_path)[-1] == last
    state = json.loads((tmp_path / f"checkpoint-{last}" / "trainer_state.json").read_text())
    assert state["global_step"] == last


def test_training_stops_when_the_loss_no_longer_falls(tiny, tmp_path):
    rows = queries(60)
    rows.needs_frontier[:] = np.random.default_rng(5).integers(0, 2, 60)
    call = {"epochs": 20, "batch_size": 27, "patience": 1, "checkpoint": tmp_path}
    tune(tiny, rows, **call)
    assert steps(tmp_path)[-1] < 20


def test_the_graph_gives_the_probabilities_of_the_fine_tuned_encoder(tuned, tmp_path):
    heads = Heads((Member(("tiny",), Linear(np.linspace(-3, 3, 32)[np.newaxis], np.ones(1))),))
    trace(Features("tiny", tuned), tmp_path / "traced.onnx")
    write_graph(tmp_path / "traced.onnx", Features("tiny", tuned), heads, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    views = list(queries(20, seed=6).query)
    expected = heads.p_frontier({"tiny": tuned.encode(views)})
    for view, probability in zip(views, expected, strict=True):
        token_ids = np.array([tuned.tokenizer.token_ids(view)])
        found = session.run(["p_frontier"], {"token_ids": token_ids})[0]
        assert found[0] == pytest.approx(probability, abs=1e-5)


@pytest.mark.slow
def test_out_of_fold_outputs_do_not_depend_on_the_row_s_label(tiny, out_of_fold):
    rows, outputs = queries(100, cheap_score=NAN), out_of_fold[0].out_of_fold
    assert set(outputs) == set(rows.id)
    mask = group_folds(rows, 2, 0)[1]
    flipped = np.where(mask, 1 - rows.needs_frontier, rows.needs_frontier)
    other, settings = replace(rows, needs_frontier=flipped), settings_of(epochs=1)
    again = fine_tune_out_of_fold(tiny, other, settings, folds=2, masks=[mask]).out_of_fold
    for name in rows.id[mask]:
        np.testing.assert_array_equal(again[name], outputs[name])
    need = np.array([outputs[name][0] for name in rows.id])
    assert need[rows.needs_frontier == 1].mean() > need[rows.needs_frontier == 0].mean()


def test_out_of_fold_outputs_survive_an_interruption(out_of_fold):
    tuned, folder = out_of_fold
    resumed = Checkpoints.open(folder, {})
    first = resumed.load_or_compute("fine-tuned, fold 0", lambda: pytest.fail("computed again"))
    rows = queries(100)
    mask = group_folds(rows, 2, 0)[0]
    expected = np.array([tuned.out_of_fold[name] for name in rows.id[mask]])
    np.testing.assert_array_equal(first, expected)


def test_an_encoder_is_read_back_unchanged_or_refused(tiny, tuned, tmp_path):
    write_fine_tuned(tuned, tmp_path / "tuned")
    again = read_fine_tuned(tmp_path / "tuned")
    for attribute in ("name", "weights_sha256", "tokenizer_json", "dimension", "max_tokens"):
        assert getattr(again, attribute) == getattr(tuned, attribute)
    views = list(queries(10, seed=7).query)
    np.testing.assert_array_equal(again.encode(views), tuned.encode(views))
    write_fine_tuned(tiny, tmp_path / "tiny")
    shutil.copy(tmp_path / "tiny" / "model.safetensors", tmp_path / "tuned")
    with pytest.raises(TrainingError, match=r"weights_sha256 .* \(now .*; fine-tune again"):
        read_fine_tuned(tmp_path / "tuned")


def test_a_folder_without_an_encoder_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"holds no fine-tuned encoder \(.*fine_tuned\.json"):
        read_fine_tuned(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (queries(49), "49 labelled rows of the train split are too few.*at least 50"),
        (queries(60, split="test"), "0 labelled rows of the train split"),
        (queries(60, needs_frontier=1.0), "all 60 rows of the train split need the frontier"),
        (queries(60, group="one"), "all 60 rows of the train split are one group"),
    ],
)
def test_rows_that_cannot_train_are_refused(tiny, rows, message):
    with pytest.raises(TrainingError, match=message):
        tune(tiny, rows)


def test_an_encoder_of_another_kind_is_refused():
    words = static_encoder("words", np.eye(3, dtype=np.float32), ["hello"])
    with pytest.raises(TrainingError, match="words is not a sentence-transformers model"):
        tune(words, queries(60))


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"objective": "rank"}, "objective is 'rank'; it is one of need, gain, contrastive"),
        ({"epochs": 0}, "epochs is 0; it must be above 0"),
        (
            {"keep_layers": (0, 5)},
            r"keep_layers is \[0, 5\]; .* layers of the encoder's 1, from 0",
        ),
        ({"keep_layers": ()}, r"keep_layers is \[\]"),
        ({"keep_layers": (1, 0)}, "in ascending order"),
    ],
)
def test_parameters_out_of_range_are_usage_errors(tiny, parameter, message):
    with pytest.raises(UsageError, match=message):
        tune(tiny, queries(60), **parameter)


def test_an_infinite_loss_and_the_checkpoint_of_another_run_are_refused(tiny, tmp_path):
    settings = {"learning_rate": 1e30, "checkpoint": tmp_path}
    with pytest.raises(TrainingError, match="loss of the need objective became nan; lower"):
        tune(tiny, queries(60), **settings)
    with pytest.raises(TrainingError, match=r"another run, with seed 0 \(now 1\); name another"):
        tune(tiny, queries(60), **settings, seed=1)
