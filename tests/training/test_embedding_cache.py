"""The cache returns the embeddings that were encoded, whatever happens to its files."""

import copy
import shutil
import threading
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytier.classifier.model.encoder import Encoder
from querytier.files import default_cache_folder
from querytier.training.embedding_cache import EmbeddingCache

VIEWS = [
    "Where is my order?",
    "Prove that the bound is tight.",
    "What time is it in Lima?",
    "Summarise the contract in two lines.",
    "Wie spät ist es?",
]


def vars_of(encoder):
    return {part.name: getattr(encoder, part.name) for part in fields(Encoder)}


@dataclass(frozen=True)
class Watched(Encoder):
    """An encoder that records the views, and is interrupted after a number of them."""

    encoded: list[str] = field(default_factory=list)
    interrupted_at: int | None = None

    def encode(self, views):
        """Encode, unless it is time to be interrupted."""
        if self.interrupted_at == len(self.encoded):
            raise KeyboardInterrupt
        self.encoded.extend(views)
        return super().encode(views)


@pytest.fixture
def watched(encoder):
    return Watched(**vars_of(encoder))


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache", rows_per_chunk=2)


@pytest.fixture(scope="module")
def filled(encoder, tmp_path_factory):
    cache = EmbeddingCache(tmp_path_factory.mktemp("cache"))
    return cache, dict(zip(VIEWS, cache.encode(encoder, VIEWS), strict=True))


def chunks(cache):
    return sorted(cache.folder.rglob("*.embeddings"))


def test_saved_embeddings_are_the_encoded_ones_bit_for_bit(watched, cache):
    first = cache.encode(watched, VIEWS)
    assert sorted(watched.encoded) == sorted(VIEWS)
    assert first.dtype == np.float32
    in_chunks = [watched.encoded[start : start + 2] for start in (0, 2, 4)]
    fresh = [Encoder.encode(watched, views) for views in in_chunks]
    order = [watched.encoded.index(view) for view in VIEWS]
    np.testing.assert_array_equal(first, np.concatenate(fresh)[order])
    watched.encoded.clear()
    np.testing.assert_array_equal(cache.encode(watched, VIEWS), first)
    assert watched.encoded == []


def test_only_the_new_views_of_a_grown_log_are_encoded(watched, cache):
    first = cache.encode(watched, VIEWS[:3])
    watched.encoded.clear()
    np.testing.assert_array_equal(cache.encode(watched, VIEWS)[:3], first)
    assert sorted(watched.encoded) == sorted(VIEWS[3:])


@settings(max_examples=30)
@given(st.lists(st.sampled_from(VIEWS), max_size=12))
def test_order_and_number_of_views_change_no_embedding(encoder, filled, views):
    cache, embedding_of = filled
    found = cache.encode(encoder, views)
    assert found.shape == (len(views), encoder.dimension)
    for view, embedding in zip(views, found, strict=True):
        np.testing.assert_array_equal(embedding, embedding_of[view])
    assert len(chunks(cache)) == 1


def test_order_and_number_change_nothing_in_an_empty_cache(watched, tmp_path):
    there = EmbeddingCache(tmp_path / "a", 2).encode(watched, VIEWS)
    back = EmbeddingCache(tmp_path / "b", 2).encode(watched, [*VIEWS[::-1], VIEWS[2]])
    np.testing.assert_array_equal(back[:5][::-1], there)
    np.testing.assert_array_equal(back[5], there[2])
    assert watched.encoded[:5] == watched.encoded[5:]


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def cut_a_row(path):
    path.write_bytes(path.read_bytes()[: -32 - 4 * 384])


def change_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def write_another_thing(path):
    path.write_text("query,label\n" * 1000)


def become_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [cut, cut_a_row, change_a_bit, empty, write_another_thing, become_a_folder]
)
def test_a_damaged_chunk_is_encoded_again_with_a_warning(watched, cache, damage, caplog):
    first = cache.encode(watched, VIEWS)
    damage(chunks(cache)[0])
    again = replace(watched, encoded=[])
    np.testing.assert_allclose(cache.encode(again, VIEWS), first, atol=1e-6)
    assert len(again.encoded) in {1, 2}
    assert set(again.encoded) < set(VIEWS)
    assert [str(chunk) in caplog.text for chunk in chunks(cache)].count(True) == 1
    assert "delete the file" in caplog.text
    once_more = replace(watched, encoded=[])
    np.testing.assert_allclose(cache.encode(once_more, VIEWS), first, atol=1e-6)
    assert once_more.encoded == []


def test_an_interrupted_encoding_resumes(watched, cache, tmp_path):
    stopped = replace(watched, encoded=[], interrupted_at=4)
    with pytest.raises(KeyboardInterrupt):
        cache.encode(stopped, VIEWS)
    assert len(chunks(cache)) == 2
    assert not list(cache.folder.rglob(".*"))
    resumed = cache.encode(watched, VIEWS)
    assert sorted(stopped.encoded + watched.encoded) == sorted(VIEWS)
    whole = EmbeddingCache(tmp_path / "whole", 2).encode(watched, VIEWS)
    np.testing.assert_array_equal(resumed, whole)


def test_a_half_written_chunk_is_not_read(watched, cache, caplog):
    cache.encode(watched, VIEWS)
    chunk = chunks(cache)[0]
    chunk.with_name(f".{chunk.name}.partial").write_bytes(chunk.read_bytes()[:100])
    watched.encoded.clear()
    cache.encode(watched, VIEWS)
    assert (watched.encoded, caplog.text) == ([], "")


def other_weights(encoder):
    model = copy.deepcopy(encoder.model)
    for values in model.parameters():
        values.data.add_(0.01)
    return replace(encoder, weights_sha256="0" * 64, model=model)


def other_tokenizer(encoder):
    json = encoder.tokenizer_json.replace('"lowercase":true', '"lowercase":false')
    json = json.replace('"lowercase": true', '"lowercase": false')
    assert json != encoder.tokenizer_json
    return replace(encoder, tokenizer_json=json)


def other_length(encoder):
    return replace(encoder, max_tokens=4)


@pytest.mark.parametrize("make", [other_weights, other_tokenizer, other_length])
def test_embeddings_of_another_encoder_are_never_returned(encoder, cache, make):
    ours = cache.encode(encoder, VIEWS)
    our_chunks, other = chunks(cache), make(encoder)
    cache.encode(other, ["Hi"])
    (their_chunk,) = set(chunks(cache)) - set(our_chunks)
    for chunk in our_chunks:
        shutil.copy(chunk, their_chunk.parent)
    found = cache.encode(other, VIEWS)
    np.testing.assert_allclose(found, other.encode(VIEWS), atol=1e-6)
    assert np.abs(found - ours).max() > 0.01
    np.testing.assert_array_equal(cache.encode(encoder, VIEWS), ours)


def test_two_threads_can_share_a_cache(encoder, cache):
    results = []
    work = [
        threading.Thread(target=lambda: results.append(cache.encode(encoder, VIEWS)))
        for _ in range(2)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(cache.encode(encoder, VIEWS), results[0])


def test_a_read_only_folder_costs_only_time(watched, tmp_path, caplog):
    (tmp_path / "file").touch()
    cache = EmbeddingCache(tmp_path / "file")
    assert cache.encode(watched, VIEWS).shape == (5, watched.dimension)
    assert "set QUERYTIER_CACHE" in caplog.text


def test_no_text_is_saved_and_only_the_owner_may_read(encoder, cache):
    cache.encode(encoder, VIEWS)
    for chunk in chunks(cache):
        assert chunk.parent.stat().st_mode & 0o077 == 0
        assert not [view for view in VIEWS if view.encode() in chunk.read_bytes()]


def test_the_environment_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("QUERYTIER_CACHE", str(tmp_path))
    assert EmbeddingCache().folder == tmp_path
    monkeypatch.delenv("QUERYTIER_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_cache_folder() == Path("/home/somebody/.cache/querytier")
