"""Public sets, as files in their layouts with invented content, become logs that can be read."""

import csv
import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile

import pytest

from querytier.data.formats.reading import read_records
from querytier.data.formats.recognise import Format
from querytier.data.ingest.inspecting import inspect_log
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.data.model_pair import ModelPair
from querytier.data.public.fetch import PUBLIC_SETS, fetch
from querytier.errors import LogError, UsageError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SMALL, LARGE = "acme/small-8x1b", "large-2-preview"
ROUTERBENCH = [
    {
        "sample_id": f"knots.{number}",
        "prompt": f"['Which knot holds {number} ropes?', 'And why?']",
        "eval_name": "knots",
        SMALL: float(number % 2),
        LARGE: 1.0,
        f"{SMALL}|model_response": "A bowline",
        f"{LARGE}|model_response": "A sheet bend",
        f"{SMALL}|total_cost": 0.001,
        f"{LARGE}|total_cost": 0.02,
        "oracle_model_to_route_to": SMALL,
    }
    for number in range(4)
]
COMPENDIUM = [
    {
        "prompt": f"Which knot holds {number} ropes?",
        "dataset": "knots",
        "models_name": [SMALL, LARGE],
        "models_performance": [float(number % 2), 1.0],
        "embeddings": [0.1, 0.2],
    }
    for number in range(4)
]
CONVERSATIONS = [
    {
        "id": f"v-{number}",
        "model_a": a,
        "model_b": b,
        "winner": winner,
        "evaluation_session_id": f"s-{number // 2}",
        "conversation_a": [{"role": "user", "content": [{"type": "text", "text": f"Hi {number}"}]}],
        "conversation_b": [{"role": "user", "content": [{"type": "text", "text": f"Hi {number}"}]}],
        "language": "en",
    }
    for number, (a, b, winner) in enumerate(
        [
            (SMALL, LARGE, "model_b"),
            (LARGE, SMALL, "model_a"),
            (SMALL, LARGE, "model_a"),
            ("tiny-0", LARGE, "both_bad"),
        ]
    )
]
VOTES = [
    {
        "id": number,
        "model_a": SMALL,
        "model_b": LARGE,
        "prompt": json.dumps([f"What is {number} fathoms?", "In feet?"]),
        "response_a": '["Deep"]',
        "response_b": '["Deeper"]',
        "winner_model_a": 0,
        "winner_model_b": int(number > 0),
        "winner_tie": int(number == 0),
    }
    for number in range(3)
]


def write(path, rows):
    text = "\n".join(map(json.dumps, rows))
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.name.endswith(".csv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    elif path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def inspected(path):
    return inspect_log(LogSource(path, pair=ModelPair(SMALL, LARGE)), LabelRules())


@pytest.mark.parametrize(("rows", "costs"), [(ROUTERBENCH, 4), (COMPENDIUM, 0)])
@pytest.mark.parametrize("source", ["a.parquet", "a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_both_forms_of_routerbench_become_its_table(tmp_path, rows, costs, source, ending):
    out = tmp_path / f"log{ending}"
    fetched = fetch("routerbench", out, write(tmp_path / source, rows))
    assert (fetched.rows, fetched.models, fetched.pair) == (4, (SMALL, LARGE), None)
    found = inspected(out)
    assert (found.format, found.rows, found.bad) == (Format.ROUTERBENCH, 4, {})
    assert (found.cheap_ok, found.frontier_ok, found.needs_frontier) == (0.5, 1.0, 0.5)
    present = {count.field: count.present for count in found.fields}
    assert present.get("cheap_cost", 0) == present.get("frontier_cost", 0) == costs
    names = {name for record in read_records(out) for name in record.fields}
    assert not {name for name in names if "response" in name or "embedding" in name}


def test_the_usual_pair_is_in_the_next_command(tmp_path):
    usual = PUBLIC_SETS["routerbench"].usual_pair
    rows = [row | {"models_name": list(usual)} for row in COMPENDIUM]
    out = tmp_path / "log.jsonl"
    fetched = fetch("routerbench", out, write(tmp_path / "downloaded.parquet", rows))
    cheap, frontier = usual
    words = ("querytier", "data", "inspect", str(out), "--cheap", cheap, "--frontier", frontier)
    assert fetched.next_command == words


@pytest.mark.parametrize("source", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a [1].jsonl"])
def test_conversations_with_votes_are_read(tmp_path, source):
    out = tmp_path / "log.jsonl"
    fetched = fetch("arena_preferences", out, write(tmp_path / source, CONVERSATIONS))
    assert fetched.rows == 4
    assert fetched.models == (LARGE, SMALL, "tiny-0")
    assert fetched.pair == (SMALL, LARGE)
    found = inspected(out)
    assert (found.format, found.rows, found.bad) == (Format.ARENA, 4, {})
    assert found.passed_over == {"a model outside the pair": 1}
    records = [record.fields for record in LogSource(out, pair=ModelPair(SMALL, LARGE)).records()]
    winners = [fields and fields["winner"] for fields in records]
    assert winners == ["frontier", "frontier", "cheap", None]
    assert records[1]["query"] == "Hi 1"
    assert records[1]["conversation"] == "s-0"


@pytest.mark.parametrize("source", ["train.csv", "train.parquet"])
def test_the_table_of_votes_is_read(tmp_path, source):
    out = tmp_path / "log.jsonl"
    fetched = fetch("arena_preferences", out, write(tmp_path / source, VOTES))
    assert (fetched.rows, fetched.pair) == (3, (SMALL, LARGE))
    records = [record.fields for record in LogSource(out, pair=ModelPair(SMALL, LARGE)).records()]
    assert [fields["winner"] for fields in records] == ["tie", "frontier", "frontier"]
    assert records[0]["query"] == "What is 0 fathoms?\nIn feet?"


def result(model, scores, **more):
    records = [
        {
            "index": number,
            "origin_query": f"Knot {number}?",
            "prompt": f"Answer briefly. Knot {number}?",
            "score": score,
            "cost": 0.01,
            "prediction": ["a", {"b": 1}][number % 2],
            "raw_output": None,
        }
        for number, score in enumerate(scores)
    ]
    return {"model_name": model, "dataset_name": "knots", "demo": False, "records": records, **more}


RESULTS = {
    f"{SMALL}/knots-test-20250101_000000.json": result("acme/small-8x1b", [1, 1, 1]),
    f"{SMALL}/knots-test-20250301_000000.json": result("acme/small-8x1b", [0, 1.0, None]),
    f"{LARGE}/knots-test-20250201_000000.json": result(LARGE, [1, 1, 1]),
    "trial/knots-test-20250201_000000.json": result("trial-1", [1, 1, 1], demo=True),
}


def results_folder(folder, results):
    for name, content in results.items():
        file = folder / "bench" / "knots" / "test" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
    return folder


def results_archive(path, results):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in results.items():
            text = json.dumps(content).encode()
            member = tarfile.TarInfo(f"bench/knots/test/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return path


@pytest.mark.parametrize("is_archive", [True, False])
def test_the_newest_results_of_each_model_become_one_table(tmp_path, is_archive):
    if is_archive:
        source = results_archive(tmp_path / "bench-release.tar.gz", RESULTS)
    else:
        source = results_folder(tmp_path / "results", RESULTS)
    out = tmp_path / "log.jsonl"
    fetched = fetch("llmrouterbench", out, source)
    assert (fetched.rows, set(fetched.models), fetched.pair) == (6, {SMALL, LARGE}, None)
    assert fetched.next_command[-4:] == ("--cheap", "CHEAP", "--frontier", "FRONTIER")
    found = inspected(out)
    assert (found.format, found.bad) == (Format.LLMROUTER, {})
    assert (found.cheap_ok, found.frontier_ok) == (0.5, 1.0)
    assert found.first[0]["query"] == "Answer briefly. Knot 0?"
    assert found.first[0]["domain"] == "knots"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"performance": 1.0}, "lacks model_name, dataset_name, records; it has performance"),
        ([1], "lacks model_name, dataset_name, records; it has no fields"),
        ({"model_name": "m", "dataset_name": "d", "records": [1]}, "a record is not an object"),
    ],
)
def test_results_of_another_layout_are_refused(tmp_path, content, said):
    folder = results_folder(tmp_path / "results", {"m/a-20250101_000000.json": content})
    with pytest.raises(LogError, match=said):
        fetch("llmrouterbench", tmp_path / "log.jsonl", folder)


@pytest.mark.parametrize("length", [-1, -40, -300, 100, 0])
def test_a_truncated_archive_says_so(tmp_path, length):
    archive = results_archive(tmp_path / "bench-release.tar.gz", RESULTS)
    archive.write_bytes(archive.read_bytes()[:length])
    with pytest.raises(LogError, match="damaged or truncated archive"):
        fetch("llmrouterbench", tmp_path / "log.jsonl", archive)


@pytest.mark.parametrize("name", ["routerbench", "arena_preferences"])
def test_another_schema_is_refused_with_its_columns(tmp_path, name):
    source = write(tmp_path / "other.jsonl", [{"question": "Hi", "model_a": "m"}])
    with pytest.raises(
        LogError, match=r"line 1: not a row of .*; its columns are question, model_a; see https://"
    ):
        fetch(name, tmp_path / "log.jsonl", source)
    assert [path.name for path in tmp_path.iterdir()] == ["other.jsonl"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "Hi", "eval_name": "x", "m": 1.0}], "columns are prompt, eval_name, m;"),
        ([*COMPENDIUM, COMPENDIUM[0] | {"models_name": ["a", "b"]}], "line 5: not a row"),
        ([COMPENDIUM[0] | {"models_performance": [1.0]}], "2 models_name and 1 models_perf"),
    ],
)
def test_scores_that_name_no_models_are_refused(tmp_path, rows, said):
    source = write(tmp_path / "other.parquet", rows)
    with pytest.raises(LogError, match=said):
        fetch("routerbench", tmp_path / "log.jsonl", source)
    assert [path.name for path in tmp_path.iterdir()] == ["other.parquet"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"no parquet"),
        ("a.jsonl", b"no json\n{"),
        ("a.jsonl", b""),
        ("a.csv", b'a,b\n\xff,1,2\n"'),
        ("a.csv", b"model_a,model_b,winner,conversation_a\n"),
        ("a.jsonl.gz", gzip.compress(b'{"model_a": "m"}' * 99, mtime=0)[:-12]),
    ],
)
def test_a_damaged_or_empty_file_says_so(tmp_path, name, content):
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(LogError, match=r"readable|line \d: not|no rows|header has|damaged"):
        fetch("arena_preferences", tmp_path / "log.jsonl", source)
    assert [path.name for path in tmp_path.iterdir()] == [name]


class Burglar:
    """What a pickle can do."""

    def __reduce__(self):
        return (open, ("burgled", "w"))


def test_a_pickle_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "routerbench_0shot.pkl"
    source.write_bytes(pickle.dumps(Burglar()))
    with pytest.raises(UsageError, match=r"runs whatever code.*to_parquet"):
        fetch("routerbench", tmp_path / "log.jsonl", source)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize(
    ("name", "out", "source", "said"),
    [
        (
            "routerbank",
            "log.jsonl",
            None,
            "choose one of routerbench, arena_preferences",
        ),
        ("routerbench", "log.parquet", None, r"name it .jsonl or .jsonl.gz"),
        ("routerbench", "log.jsonl", "none.parquet", "no such file"),
        ("routerbench", "log.jsonl", "a.txt", "extension '.txt'"),
        ("llmrouterbench", "log.jsonl", "none", "no such file"),
        ("llmrouterbench", "log.jsonl", "none.tar.gz", "no such file"),
        ("llmrouterbench", "log.jsonl", "a.txt", "not the archive of LLMRouterBench"),
        ("routerbench", "a.jsonl", "a.jsonl", "give another path"),
    ],
)
def test_a_wrong_call_is_an_error_with_the_cure(tmp_path, name, out, source, said):
    (tmp_path / "a.txt").write_text("x")
    write(tmp_path / "a.jsonl", COMPENDIUM)
    with pytest.raises(UsageError, match=said):
        fetch(name, tmp_path / out, source and tmp_path / source)
    assert len(list(read_records(tmp_path / "a.jsonl"))) == len(COMPENDIUM)


OFFLINE = """
import sys
from pathlib import Path
from querytier.data.public.fetch import PUBLIC_SETS, fetch
from querytier.errors import LogError
for name in PUBLIC_SETS:
    try:
        fetch(name, Path(sys.argv[1]) / "log.jsonl")
    except LogError as error:
        print(error)
"""


def test_without_the_hub_the_error_names_the_page_and_a_workaround(tmp_path):
    """In a separate interpreter, because the libraries read their settings when imported."""
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    said = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(tmp_path)],
        env=os.environ | settings | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(said) == len(PUBLIC_SETS)
    for public, line in zip(PUBLIC_SETS.values(), said, strict=True):
        assert f"hub is not reachable for {public.repository} (HF_HUB_OFFLINE is set" in line
        assert f"download it from {public.page} on a machine that reaches it" in line
        assert f"querytier data fetch {public.name} --out {tmp_path}/log.jsonl --from" in line
    assert not (tmp_path / "log.jsonl").exists()


LOADED = """
import sys
import querytier.cli.main, querytier.pipeline.prepare, querytier.loop.retrain
print([name for name in sys.modules if name.startswith("querytier.data.public")])
"""


def test_only_the_verb_loads_the_public_sets():
    """The rest of the command line does not, and neither does preparing or retraining."""
    command = [sys.executable, "-c", LOADED]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
