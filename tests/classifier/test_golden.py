"""Golden vectors, and artifacts of every format version: they still give the exported scores."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.classifier.artifact import file_sha256
from querytier.classifier.golden import golden_queries, replay_golden
from querytier.classifier.manifest import FORMAT_VERSION, Tolerance, dump_manifest
from querytier.classifier.runtime import Classifier
from querytier.data.text_view import text_view
from querytier.errors import ArtifactError
from querytier.serve import Router

ARTIFACTS = Path(__file__).parents[1] / "fixtures" / "artifacts"
ANY_TEXT = st.text(st.characters(exclude_categories=[]))
RAW_BYTES = st.binary().map(lambda content: content.decode("utf-8", "surrogateescape"))
FORMATS = [f"format-{version}" for version in range(1, FORMAT_VERSION + 1)]


@pytest.fixture
def portable(tmp_path):
    """Return a small artifact that a test may damage."""
    return Path(shutil.copytree(ARTIFACTS / "format-2", tmp_path / "model"))


def exported_again(folder, **changes):
    """Write the hashes of the folder into the manifest, as a person who tampers with it would."""
    manifest = Classifier.load(folder).manifest if not changes else changes.pop("manifest")
    files = {name: file_sha256(folder / name) for name in manifest.files}
    (folder / "manifest.json").write_text(dump_manifest(replace(manifest, files=files, **changes)))


@pytest.mark.parametrize("name", FORMATS)
def test_artifacts_of_every_format_version_load_and_decide_as_before(name, call):
    router = Router.load(ARTIFACTS / name)
    replay = replay_golden(router.classifier, ARTIFACTS / name / "golden.jsonl")
    assert replay.vectors >= 200
    assert replay.max_difference <= router.classifier.manifest.tolerance.largest
    assert router.decide("Why is the sky blue?").reason == "classifier"
    code, out, err = call("artifact", "verify", ARTIFACTS / name)
    assert (code, err) == (0, "")
    assert f"{replay.vectors} golden vectors reproduced" in out


def test_golden_queries_are_of_all_kinds():
    queries = list(golden_queries())
    assert len(queries) >= 200
    assert {"", "?"} <= set(queries)
    assert max(map(len, queries)) == 100_000
    kinds = ["\U0001f680", "\u0643", "\u8bf7", "\x00", "<system-reminder>", "<|im_start|>"]
    assert all(any(kind in query for query in queries) for kind in kinds)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("p_frontier", 0.123, r"from the golden ones by up to 0\.\d+"),
        ("decision_score", float("nan"), "from the golden ones by up to inf"),
        ("view", "another", "has view 'Hi', but 'another' in its golden vector"),
        ("token_ids", [7], r"has token_ids '\[.*\]', but '\[7\]' in its golden vector"),
        ("tier", "nobody", "has tier '(cheap|frontier)', but 'nobody' in its golden vector"),
    ],
)
def test_a_golden_vector_that_is_not_reproduced_is_an_error(portable, name, value, message):
    manifest = Classifier.load(portable).manifest
    path = portable / "golden.jsonl"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), name: value}), *others]))
    exported_again(portable, manifest=manifest)
    with pytest.raises(ArtifactError, match=message):
        replay_golden(Classifier.load(portable), path)


def test_a_tier_may_differ_only_within_the_tolerance_of_the_threshold(portable):
    manifest = Classifier.load(portable).manifest
    path = portable / "golden.jsonl"
    first = path.read_text().splitlines()[0]
    path.write_text(first)
    vector = json.loads(first)
    near = vector["decision_score"] + (0.005 if vector["tier"] == "frontier" else -0.005)
    wide = Tolerance(1e-5, 0.0, 0.01)
    exported_again(portable, manifest=manifest, threshold=near, tolerance=wide)
    assert replay_golden(Classifier.load(portable), path).vectors == 1
    exported_again(portable, manifest=manifest, threshold=near, tolerance=Tolerance(0, 0, 1e-4))
    with pytest.raises(ArtifactError, match="has tier"):
        replay_golden(Classifier.load(portable), path)


@pytest.mark.parametrize("content", ["", "no json\n"])
def test_a_file_without_golden_vectors_is_refused(portable, content):
    (portable / "golden.jsonl").write_text(content)
    exported_again(portable, manifest=Classifier.load(ARTIFACTS / "format-2").manifest)
    with pytest.raises(ArtifactError, match="has no golden vectors"):
        replay_golden(Classifier.load(portable), portable / "golden.jsonl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "pictures"}, "has input 'pictures', not one of"),
        ({"threshold": "high"}, "value of the wrong type"),
        ({"tolerance": Tolerance("much", 0, 0)}, "value of the wrong type"),
        ({"files": ["model.onnx"]}, "value of the wrong type"),
    ],
)
def test_a_manifest_with_an_impossible_value_is_refused(portable, changes, message):
    manifest = Classifier.load(portable).manifest
    text = dump_manifest(replace(manifest, **changes))
    (portable / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        Router.load(portable)


@pytest.fixture(scope="module")
def portable_router():
    return Router.load(ARTIFACTS / "format-2")


@given(ANY_TEXT | ANY_TEXT.map(lambda text: text * 2000) | st.binary() | RAW_BYTES)
def test_a_portable_artifact_decides_anything_within_the_view(portable_router, query):
    decision = portable_router.decide(query)
    assert decision.tier in {"cheap", "frontier"}
    if isinstance(query, bytes):
        assert decision.reason == "fallback:error"
    elif decision.reason == "classifier":
        assert 0 <= decision.p_frontier <= 1
        ids = portable_router.classifier.token_ids(text_view(query))
        assert 0 < len(ids) <= portable_router.classifier.manifest.max_tokens
    else:
        assert (decision.reason, text_view(query)) == ("fallback:empty", "")


def test_two_threads_that_share_a_router_get_the_same_scores(portable_router):
    queries = [query for query in golden_queries() if len(query) < 5_000] * 3
    alone = [portable_router.decide(query).p_frontier for query in queries]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(portable_router.decide, queries))
    assert [decision.p_frontier for decision in together] == alone


def test_the_command_line_accepts_bytes_that_are_not_text(call):
    """A shell passes bytes that are not UTF-8 as surrogates."""
    query = b"Why \xff\xfe?".decode("utf-8", "surrogateescape")
    code, out, _ = call("decide", query, "--artifact", ARTIFACTS / "format-2")
    assert code == 0
    assert json.loads(out)["reason"] == "classifier"
