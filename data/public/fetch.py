"""Public sets by name: from the Hugging Face hub, or from a downloaded file of the set.

The files are read by `read_records`, like any log, and written as JSON lines without the answers of
the models, which are most of a set; `querytier.data.formats` recognises the files written.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from querytier.data.formats.reading import read_records
from querytier.data.formats.recognise import Format, recognise
from querytier.data.public.forms import ModelCounts, as_log_row
from querytier.data.public.results_archive import ARCHIVE, results
from querytier.errors import LogError, UsageError
from querytier.files import atomic_file

__all__ = ["PUBLIC_SETS", "Fetched", "PublicSet", "fetch"]

_SHOWN_MODELS = 12


@dataclass(frozen=True)
class PublicSet:
    """A public set, as described on its page.

    Attributes
    ----------
    name : str
        What the user calls it.
    repository : str
        Its data set on the hub.
    files : str
        Pattern of the repository's files to download.
    format : Format
        Format of the log that is written.
    licence : str
        As the set's pages state it.
    homepage : str
    usual_pair : tuple of str or None
        A cheap and a frontier model of the set.
    """

    name: str
    repository: str
    files: str
    format: Format
    licence: str
    homepage: str
    usual_pair: tuple[str, str] | None = None

    @property
    def page(self) -> str:
        """The page that lists the repository's files."""
        return f"https://huggingface.co/datasets/{self.repository}/tree/main"


# RouterBench's own repository, withmartian/routerbench, holds only pickles; a collection of
# routing sets publishes its scores as Parquet.
_ROUTERBENCH = PublicSet(
    name="routerbench",
    repository="Wikit/RoutingCompendium-perf",
    files="data/RouterBench-*.parquet",
    format=Format.ROUTERBENCH,
    licence="none stated on the pages of withmartian/routerbench",
    homepage="https://huggingface.co/datasets/withmartian/routerbench",
    usual_pair=("mistralai/mixtral-8x7b-chat", "gpt-4-1106-preview"),
)
_ARENA = PublicSet(
    name="arena_preferences",
    repository="lmarena-ai/arena-human-preference-140k",
    files="data/*.parquet",
    format=Format.ARENA,
    licence="prompts CC-BY-4.0, answers under the terms of the models' providers",
    homepage="https://huggingface.co/datasets/lmarena-ai/arena-human-preference-140k",
)
_LLMROUTERBENCH = PublicSet(
    name="llmrouterbench",
    repository="NPULH/LLMRouterBench",
    files=ARCHIVE,
    format=Format.LLMROUTER,
    licence="none stated on the set's page; its code repository shows an MIT badge",
    homepage="https://github.com/ynulihao/LLMRouterBench",
)
PUBLIC_SETS = {public.name: public for public in (_ROUTERBENCH, _ARENA, _LLMROUTERBENCH)}


@dataclass(frozen=True)
class Fetched:
    """A public set as a log file.

    Attributes
    ----------
    public : PublicSet
    out : Path
    rows : int
    models : tuple of str
        At most twelve, most frequent first.
    pair : tuple of str or None
        A cheap and a frontier model to start with: the set's usual pair, or the two models with the
        most votes between them.
    """

    public: PublicSet
    out: Path
    rows: int
    models: tuple[str, ...]
    pair: tuple[str, str] | None

    @property
    def next_command(self) -> tuple[str, ...]:
        """The words of the command that inspects the file; CHEAP and FRONTIER without a pair."""
        cheap, frontier = self.pair or ("CHEAP", "FRONTIER")
        command = ("querytier", "data", "inspect", str(self.out))
        return (*command, "--cheap", cheap, "--frontier", frontier)


def fetch(name: str, out: Path, downloaded: Path | None = None) -> Fetched:
    """Write a public set as a log file that `read_records` reads and `recognise` knows.

    Memory: one row; for LLMRouterBench the largest of its files of results.

    Parameters
    ----------
    name : str
        One of `PUBLIC_SETS`.
    out : Path
        `.jsonl` or `.jsonl.gz`.
    downloaded : Path, optional
        A file of the set, so that nothing is downloaded: any file that `read_records` reads; for
        LLMRouterBench the archive, or the folder unpacked from it.

    Raises
    ------
    UsageError
        If the name or an ending is unknown, or the file does not exist, is a pickle or is `out`.
    LogError
        If the hub is not reachable or denies access, or the file cannot be read or is of another
        set.
    """
    public = PUBLIC_SETS.get(name)
    if public is None:
        raise UsageError(f"no public set {name!r}; choose one of {', '.join(PUBLIC_SETS)}")
    if not out.name.endswith((".jsonl", ".jsonl.gz")):
        raise UsageError(f"{out}: a set is written as JSON lines; name it .jsonl or .jsonl.gz")
    if downloaded is not None and downloaded.resolve() == out.resolve():
        raise UsageError(f"--out is the downloaded file {downloaded} itself; give another path")
    paths = _downloaded_files(public, out) if downloaded is None else [downloaded]
    counts = ModelCounts()
    opened = gzip.open if out.suffix == ".gz" else open
    with atomic_file(out) as scratch, opened(scratch, "wt", encoding="utf-8") as file:
        for row in _rows(public, paths):
            counts.add(row)
            # Times are the only values of these sets that JSON does not have.
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        if not counts.rows:
            raise LogError(f"{downloaded or public.repository} has no rows of {name}")
    models = counts.models()
    usual = public.usual_pair if set(public.usual_pair or "?") <= set(models) else None
    return Fetched(public, out, counts.rows, models[:_SHOWN_MODELS], usual or counts.pair())


def _rows(public: PublicSet, paths: Sequence[Path]) -> Iterator[dict[str, object]]:
    if public.format is Format.LLMROUTER:
        (path,) = paths
        yield from results(path)
        return
    first: Mapping[str, object] | None = None
    for path in paths:
        _refuse_pickle(path, public)
        for record in read_records(path):
            if record.fields is None:
                raise LogError(
                    f"{path}, line {record.line}: {record.problem}; download it again from "
                    f"{public.page}"
                )
            row = as_log_row(record.fields)
            first = first or row
            changed = public.format is Format.ROUTERBENCH and row.keys() != first.keys()
            # A set that is published again in another layout is refused and not misread.
            if changed or recognise(row) is not public.format:
                raise LogError(
                    f"{path}, line {record.line}: not a row of {public.name} as we know it; its "
                    f"columns are {', '.join(record.fields)}; see {public.homepage}"
                )
            yield row


def _refuse_pickle(path: Path, public: PublicSet) -> None:
    if path.suffix in {".pkl", ".pickle"}:
        raise UsageError(
            f"{path} is a pickle, and reading a pickle runs whatever code is in it; fetch "
            f"the set by name from {public.page}, or, if you trust the file, convert it "
            f"elsewhere: python -c \"import pandas; pandas.read_pickle('{path.name}')"
            f".to_parquet('{path.stem}.parquet')\""
        )


def _downloaded_files(public: PublicSet, out: Path) -> list[Path]:
    """Return the set's files from the hub's cache, downloading those that are missing."""
    from huggingface_hub import is_offline_mode, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    # httpx or its successor, whichever huggingface_hub was built on.
    http_error = cast("type[Exception]", HfHubHTTPError.__bases__[0])
    cure = (
        f"download it from {public.page} on a machine that reaches it, then: "
        f"querytier data fetch {public.name} --out {out} --from FILE"
    )
    try:
        folder = snapshot_download(
            public.repository, repo_type="dataset", allow_patterns=public.files
        )
    except RepositoryNotFoundError as error:
        raise LogError(
            f"the hub has no {public.repository} for you ({error}); if its page asks for "
            f"consent, give it and run `hf auth login`; or {cure}"
        ) from error
    except (OSError, http_error) as error:
        offline = "HF_HUB_OFFLINE is set; " if is_offline_mode() else ""
        raise LogError(
            f"the Hugging Face hub is not reachable for {public.repository} ({offline}{error}); "
            f"{cure}"
        ) from error
    paths = sorted(Path(folder).glob(public.files))
    if not paths:
        raise LogError(f"{public.repository} has no {public.files}; {cure}")
    return paths
