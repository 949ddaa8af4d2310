"""Public sets by name: from the Hugging Face hub, or from a file of theirs already downloaded."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from querytier.data.public.files import dataset_in
from querytier.data.public.forms import (
    Form,
    ModelTally,
    arena_votes,
    compendium_scores,
    routerbench_scores,
)
from querytier.data.public.llmrouterbench import ARCHIVE, result_tables
from querytier.data.public.table_files import table_writer
from querytier.errors import LogError, UsageError
from querytier.files import atomic_file

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["PUBLIC_SETS", "Fetched", "PublicSet", "fetch"]

_ROWS_AT_ONCE = 1000
_SHOWN_MODELS = 12


@dataclass(frozen=True)
class PublicSet:
    """A public set, as its page describes it.

    Attributes
    ----------
    name : str
        What the user calls it.
    repository : str
        Of the hub's data sets.
    licence : str
        As the pages state it.
    homepage : str
    data_files : str or None
        Those of the repository's files that are meant; None for all.
    forms : tuple of Form
        Layouts of its files, that of the repository first; none where it is an archive.
    usual_pair : tuple of str or None
        A cheap and a frontier model of it.
    """

    name: str
    repository: str
    licence: str
    homepage: str
    data_files: str | None = None
    forms: tuple[Form, ...] = ()
    usual_pair: tuple[str, str] | None = None

    @property
    def page(self) -> str:
        """The page that lists the repository's files."""
        return f"https://huggingface.co/datasets/{self.repository}/tree/main"


# RouterBench's own repository, withmartian/routerbench, holds nothing but pickles; a collection of
# routing sets publishes its scores as Parquet.
_ROUTERBENCH = PublicSet(
    name="routerbench",
    repository="Wikit/RoutingCompendium-perf",
    data_files="data/RouterBench-*.parquet",
    forms=(
        Form(("prompt", "dataset", "models_name", "models_performance"), compendium_scores),
        Form(("prompt", "eval_name"), routerbench_scores),
    ),
    licence="none stated on the pages of withmartian/routerbench",
    homepage="https://huggingface.co/datasets/withmartian/routerbench",
    usual_pair=("mistralai/mixtral-8x7b-chat", "gpt-4-1106-preview"),
)
_ARENA = PublicSet(
    name="arena_preferences",
    repository="lmarena-ai/arena-human-preference-140k",
    forms=(
        Form(("model_a", "model_b", "winner", "conversation_a"), arena_votes),
        Form(
            ("model_a", "model_b", "prompt", "winner_model_a", "winner_model_b", "winner_tie"),
            arena_votes,
        ),
    ),
    licence="prompts CC-BY-4.0, answers under the terms of the models' providers",
    homepage="https://huggingface.co/datasets/lmarena-ai/arena-human-preference-140k",
)
_LLMROUTERBENCH = PublicSet(
    name="llmrouterbench",
    repository="NPULH/LLMRouterBench",
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
        A cheap and a frontier model to begin with: a usual one, or the two with most votes between
        them.
    """

    public: PublicSet
    out: Path
    rows: int
    models: tuple[str, ...]
    pair: tuple[str, str] | None

    @property
    def next_command(self) -> tuple[str, ...]:
        """The words of the command that looks into the file; CHEAP and FRONTIER without a pair."""
        cheap, frontier = self.pair or ("CHEAP", "FRONTIER")
        command = ("querytier", "data", "inspect", str(self.out))
        return (*command, "--cheap", cheap, "--frontier", frontier)


def fetch(name: str, out: Path, downloaded: Path | None = None) -> Fetched:
    """Write a public set as a log file that `read_records` reads and `recognise` knows.

    Rows are taken in batches: memory is what datasets needs to read the files, and for
    LLMRouterBench the largest of its files of results.

    Parameters
    ----------
    name : str
        Of `PUBLIC_SETS`.
    out : Path
        `.parquet`, `.jsonl` or `.jsonl.gz`.
    downloaded : Path, optional
        A file of the set, so that the hub is not asked: `.parquet`, `.jsonl`, `.json` or `.csv`
        (the text formats also with `.gz`); of LLMRouterBench the archive, or its unpacked folder.

    Raises
    ------
    UsageError
        If the name or an ending is unknown, there is no such file, it is a pickle, or `out` is it.
    LogError
        If the hub is not reachable or refuses, or the file is unreadable or of another set.
    """
    public = PUBLIC_SETS.get(name)
    if public is None:
        raise UsageError(f"no public set {name!r}; there are {', '.join(PUBLIC_SETS)}")
    if downloaded is not None and downloaded.resolve() == out.resolve():
        raise UsageError(f"--out is the downloaded file {downloaded} itself; give another path")
    write = table_writer(out)
    tally = ModelTally()
    out.parent.mkdir(parents=True, exist_ok=True)
    with _tables(public, out, downloaded) as tables, atomic_file(out) as scratch:
        rows = write(scratch, _counted(tables, tally))
        if not rows:
            raise LogError(f"{downloaded or public.repository} holds no rows of {name}")
    models = tally.models()
    usual = public.usual_pair if set(public.usual_pair or "?") <= set(models) else None
    return Fetched(public, out, rows, models[:_SHOWN_MODELS], usual or tally.pair())


@contextmanager
def _tables(
    public: PublicSet, out: Path, downloaded: Path | None
) -> Iterator[Iterator["pa.Table"]]:
    """Give the set's tables as they are to be written."""
    if downloaded is not None and not downloaded.exists():
        raise UsageError(f"no such file: {downloaded}; give a file downloaded from {public.page}")
    if not public.forms:
        yield result_tables(downloaded or _archive(public, out))
    elif downloaded is None:
        yield _reshaped(public, _hub_dataset(public, out), public.repository)
    else:
        # Beside the target: the copy that datasets makes may be too large for a temporary folder.
        with tempfile.TemporaryDirectory(prefix=".querytier-", dir=out.parent) as cache:
            dataset = dataset_in(downloaded, cache, public.page)
            yield _reshaped(public, dataset, str(downloaded))


def _hub_dataset(public: PublicSet, out: Path) -> "datasets.Dataset":
    import datasets

    with _hub_errors(public, out):
        return datasets.load_dataset(public.repository, data_files=public.data_files, split="train")


def _archive(public: PublicSet, out: Path) -> Path:
    """Return the archive from the hub's cache, downloaded if need be; datasets reads no such."""
    from huggingface_hub import hf_hub_download

    with _hub_errors(public, out):
        return Path(hf_hub_download(public.repository, ARCHIVE, repo_type="dataset"))


@contextmanager
def _hub_errors(public: PublicSet, out: Path) -> Iterator[None]:
    """Make errors of the hub say what to do.

    datasets raises ConnectionError where it finds no network or `HF_HUB_OFFLINE` is set;
    huggingface_hub raises LocalEntryNotFoundError for the same, and otherwise its own kinds of the
    HTTP client's error.
    """
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import is_offline_mode
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    # httpx or its successor, whichever huggingface_hub was built on.
    http_error = cast("type[Exception]", HfHubHTTPError.__bases__[0])
    cure = (
        f"download it from {public.page} where it can be reached, then: "
        f"querytier data fetch {public.name} --out {out} --from FILE"
    )
    try:
        yield
    except (DatasetNotFoundError, RepositoryNotFoundError) as error:
        raise LogError(
            f"the hub has no {public.repository} for you ({error}); where its page asks for "
            f"consent, give it and run `hf auth login`; or {cure}"
        ) from error
    except (ConnectionError, LocalEntryNotFoundError, http_error) as error:
        offline = "HF_HUB_OFFLINE is set; " if is_offline_mode() else ""
        raise LogError(
            f"the Hugging Face hub is not reachable for {public.repository} ({offline}{error}); "
            f"{cure}"
        ) from error


def _reshaped(public: PublicSet, dataset: "datasets.Dataset", source: str) -> Iterator["pa.Table"]:
    form = _form(public, dataset.column_names, source)
    for table in dataset.with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
        yield form.reshaped(table)


def _form(public: PublicSet, found: list[str], source: str) -> Form:
    def missing(form: Form) -> list[str]:
        return [name for name in form.columns if name not in found]

    closest = min(public.forms, key=lambda form: len(missing(form)))
    if missing(closest):
        raise LogError(
            f"{source} is not {public.name} as we know it: it lacks {', '.join(missing(closest))}; "
            f"it has {', '.join(found)}; see {public.homepage}"
        )
    return closest


def _counted(tables: Iterator["pa.Table"], tally: ModelTally) -> Iterator["pa.Table"]:
    for table in tables:
        tally.take(table)
        yield table.replace_schema_metadata(None)
