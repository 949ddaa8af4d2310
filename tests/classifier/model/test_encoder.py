"""Opening a sentence-transformers model by folder or name, and which models are refused."""

import json
import shutil

import numpy as np
import pytest

from querytier.classifier.model.encoder import load_encoder, open_encoder
from querytier.classifier.tokens import MAX_TOKENS
from querytier.errors import TrainingError

QUERIES = ["Where is my order?", "Prove that √2 is irrational.", "¿Y eso?", "long " * 300, ""]


@pytest.fixture(scope="module")
def pinned():
    """Return the pinned encoder, cut to its first layer."""
    return load_encoder(layers=1)


@pytest.fixture(scope="module")
def saved(pinned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "one-layer"
    pinned.model.save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def opened(saved):
    return open_encoder(str(saved))


@pytest.fixture
def copied(saved, tmp_path):
    """Return a saved model that a test may change."""
    return shutil.copytree(saved, tmp_path / "copied")


def edit(path, change):
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def give_id_0(word):
    """Return a change to a tokenizer by which a word and [PAD] swap ids."""

    def change(settings):
        vocabulary = settings["model"]["vocab"]
        vocabulary["[PAD]"], vocabulary[word] = vocabulary[word], 0
        for token in settings["added_tokens"]:
            if token["content"] in {"[PAD]", word}:
                token["id"] = vocabulary[token["content"]]

    return change


def test_a_model_opened_from_its_folder_embeds_as_when_it_was_saved(pinned, opened):
    found = opened.encode(QUERIES)
    np.testing.assert_allclose(found, pinned.encode(QUERIES), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert (opened.name, opened.dimension, opened.max_tokens) == ("one-layer", 384, MAX_TOKENS)
    for query in QUERIES:
        assert opened.tokenizer.token_ids(query) == pinned.tokenizer.token_ids(query)


def test_token_ids_give_the_embedding_that_the_library_gives_a_text(opened):
    import torch

    encoded = opened.model.preprocess(QUERIES[:3])
    assert "token_type_ids" in encoded
    with torch.inference_mode():
        expected = opened.model(encoded)["sentence_embedding"]
    np.testing.assert_allclose(opened.encode(QUERIES[:3]), expected, atol=1e-5)


def test_embeddings_that_are_not_of_unit_length_are_normalised(opened, copied, tmp_path):
    edit(copied / "modules.json", lambda modules: modules.pop())
    normalised = open_encoder(str(copied))
    expected = opened.encode(QUERIES)
    np.testing.assert_allclose(normalised.encode(QUERIES), expected, atol=1e-6)
    normalised.model.save_pretrained(str(tmp_path / "again"), create_model_card=False)
    again = open_encoder(str(tmp_path / "again"))
    np.testing.assert_allclose(again.encode(QUERIES), expected, atol=1e-6)


def test_the_hash_depends_on_weights_and_pooling_and_nothing_else(opened, copied):
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    assert open_encoder(str(copied)).weights_sha256 == opened.weights_sha256
    pooling = next(copied.glob("*_Pooling")) / "config.json"
    edit(pooling, lambda settings: settings.update(pooling_mode="cls"))
    pooled = open_encoder(str(copied)).weights_sha256
    weights["embeddings.LayerNorm.bias"][0] += 0.01
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    changed = open_encoder(str(copied)).weights_sha256
    assert len({opened.weights_sha256, pooled, changed}) == 3


def test_weights_that_a_file_lacks_do_not_change_the_hash(copied):
    """Files often lack BERT's pooler: no embedding depends on it."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, copied / "model.safetensors", {"format": "pt"})
    first = open_encoder(str(copied)).weights_sha256
    torch.rand(1)
    assert open_encoder(str(copied)).weights_sha256 == first


def test_weights_of_half_precision_are_widened(opened, copied):
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "model.safetensors")
    halved = {name: tensor.bfloat16() for name, tensor in weights.items()}
    save_file(halved, copied / "model.safetensors", {"format": "pt"})
    edit(copied / "config.json", lambda settings: settings.update(dtype="bfloat16"))
    widened = open_encoder(str(copied)).encode(QUERIES)
    np.testing.assert_allclose(widened, opened.encode(QUERIES), atol=0.02)


def test_a_model_with_fewer_positions_gets_fewer_ids(copied):
    edit(copied / "sentence_bert_config.json", lambda settings: settings.update(max_seq_length=32))
    opened = open_encoder(str(copied))
    assert opened.max_tokens == len(opened.tokenizer.token_ids("long " * 300)) == 32


def test_a_folder_that_is_missing_or_has_no_model_is_named(tmp_path, copied):
    with pytest.raises(TrainingError, match=r"nowhere/at/all is not a folder.*folder of a copy"):
        open_encoder(str(tmp_path / "nowhere" / "at" / "all"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=r"empty has no sentence-transformers.*save_pretrain"):
        open_encoder(str(tmp_path / "empty"))
    (copied / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(TrainingError, match="copied has no sentence-transformers model"):
        open_encoder(str(copied))


def test_a_missing_model_of_the_hub_is_named_with_the_cure():
    with pytest.raises(TrainingError, match=r"invented/no-model is .* set HF_HUB_OFFLINE=0 before"):
        open_encoder("invented/no-model")


def test_a_tokenizer_whose_padding_is_not_id_0_is_refused(copied):
    edit(copied / "tokenizer.json", give_id_0("[unused0]"))
    match = r"pads with id 1 \(\[PAD\]\), and its id 0 is \[unused0\].*name an encoder"
    with pytest.raises(TrainingError, match=match):
        open_encoder(str(copied))


def test_a_tokenizer_whose_id_0_occurs_in_texts_is_refused(copied):
    edit(copied / "tokenizer.json", give_id_0("!"))
    edit(copied / "tokenizer_config.json", lambda settings: settings.update(pad_token="!"))
    with pytest.raises(TrainingError, match=r"pads with id 0 \(!\), and its id 0 is !"):
        open_encoder(str(copied))


def test_a_model_without_a_transformers_tokenizer_is_refused(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    static = StaticEmbedding(tokenizer, embedding_dim=4)
    SentenceTransformer(modules=[static], device="cpu").save_pretrained(str(tmp_path))
    with pytest.raises(TrainingError, match="no transformer with a fast tokenizer"):
        open_encoder(str(tmp_path))


def test_a_model_that_reads_more_than_token_ids_is_refused(copied):
    """Here every token belongs to the second segment, which token ids do not show."""

    def change(settings):
        for piece in settings["post_processor"]["single"]:
            next(iter(piece.values()))["type_id"] = 1

    edit(copied / "tokenizer.json", change)
    inputs = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    generic = inputs | {"tokenizer_class": "PreTrainedTokenizerFast"}
    edit(copied / "tokenizer_config.json", lambda settings: settings.update(generic))
    with pytest.raises(TrainingError, match=r"embeds token ids .* away from their texts"):
        open_encoder(str(copied))
