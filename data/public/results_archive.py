"""The results of LLMRouterBench: an archive of JSON files, read without unpacking it.

`bench-release.tar.gz` has a file for each benchmark, split and model, `bench/BENCHMARK/SPLIT/MODEL/
*-YYYYMMDD_HHMMSS.json`: an object with `model_name`, `dataset_name`, `demo` and `records`, which
have `prompt`, `origin_query`, `score` and `cost`. The layout is known from the storage module and
the README of github.com/ynulihao/LLMRouterBench; it was not tried on the archive itself.
"""

import gzip
import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from querytier.data.values import score_in, text_in
from querytier.errors import LogError, UsageError

__all__ = ["ARCHIVE", "results"]

ARCHIVE = "bench-release.tar.gz"
_CHUNK = 1 << 20
_RESULT_FIELDS = ("model_name", "dataset_name", "records")


def results(path: Path) -> Iterator[dict[str, object]]:
    """Yield a row of LLMRouter's routing data for each model and query.

    If a model ran several times on a benchmark, the newest run counts, by the time in the file's
    name; trial runs (`demo`) are left out. The query is the prompt that the models saw.

    Memory: one file of results.

    Parameters
    ----------
    path : Path
        The archive, or the folder unpacked from it.

    Raises
    ------
    UsageError
        If it does not exist, or is neither.
    LogError
        If it is damaged, or a file in it has another layout.
    """
    if not path.exists():
        raise UsageError(f"no such file: {path}; give {ARCHIVE} or its unpacked folder")
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*.json")}
        for name in sorted(_newest(files)):
            yield from _rows(name, files[name].read_bytes())
    elif path.name.endswith((".tar.gz", ".tgz", ".tar")):
        yield from _archived_rows(path)
    else:
        raise UsageError(
            f"{path} is not the archive of LLMRouterBench; give {ARCHIVE} or its unpacked folder"
        )


def _archived_rows(path: Path) -> Iterator[dict[str, object]]:
    try:
        with _opened(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            members = {member.name: member for member in archive if member.isfile()}
            # The archive ends before its compressed file does, and only the end of the compressed
            # file shows that nothing was cut off.
            while file.read(_CHUNK):
                pass
            newest = _newest(members)
            for name, member in members.items():
                content = archive.extractfile(member) if name in newest else None
                if content is not None:
                    yield from _rows(name, content.read())
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise LogError(
            f"{path} is a damaged or truncated archive ({error}); download it again"
        ) from error


def _opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    return path.open("rb") if path.suffix == ".tar" else gzip.open(path)


def _newest(names: Iterable[str]) -> set[str]:
    """Return the newest JSON file of each folder; the names end with the time of the run."""
    last: dict[PurePosixPath, str] = {}
    for name in names:
        file = PurePosixPath(name)
        is_result = file.suffix == ".json" and not file.name.startswith(".")
        if is_result and file.name > PurePosixPath(last.get(file.parent, "")).name:
            last[file.parent] = name
    return set(last.values())


def _rows(name: str, content: bytes) -> Iterator[dict[str, object]]:
    result = _result(name, content)
    for record in [] if result.get("demo") else result["records"]:
        yield {
            "task_name": text_in(result["dataset_name"]),
            "query": _query(record),
            "model_name": text_in(result["model_name"]),
            "performance": score_in(record.get("score")),
            "cost": score_in(record.get("cost")),
        }


def _result(name: str, content: bytes) -> dict[str, Any]:
    try:
        result = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LogError(f"{name} is not JSON: {error}") from error
    found = set(result) if isinstance(result, dict) else set()
    missing = [field for field in _RESULT_FIELDS if field not in found]
    if missing or not isinstance(result["records"], list):
        raise LogError(
            f"{name} is not a file of LLMRouterBench's results: it lacks {', '.join(missing)}; "
            f"it has {', '.join(sorted(found)) or 'no fields'}"
        )
    if not all(isinstance(record, dict) for record in result["records"]):
        raise LogError(
            f"{name} is not a file of LLMRouterBench's results: a record is not an object"
        )
    return dict(result)


def _query(record: Mapping[str, object]) -> str | None:
    """Return the prompt as text, and chat messages as the JSON text that they are."""
    prompt = record.get("prompt") or record.get("origin_query")
    return prompt if isinstance(prompt, str | None) else json.dumps(prompt, ensure_ascii=False)
