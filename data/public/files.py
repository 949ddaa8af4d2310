"""Downloaded files of public sets, read by `datasets`."""

import glob
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from querytier.errors import LogError, UsageError

if TYPE_CHECKING:
    import datasets

__all__ = ["dataset_in"]

_BUILDERS = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
}


def dataset_in(path: Path, cache: str, page: str) -> "datasets.Dataset":
    """Return a downloaded file as a dataset, of which datasets makes an Arrow copy in the cache.

    Parameters
    ----------
    path : Path
        `.parquet`, `.jsonl`, `.ndjson`, `.json` or `.csv`, the text formats also with `.gz`.
    cache : str
        A folder with room for the copy.
    page : str
        Where the file comes from, for messages.

    Raises
    ------
    UsageError
        If the ending is another, that of a pickle among them.
    LogError
        If the file is empty or cannot be read.
    """
    import datasets
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    builder = _builder(path, page)
    if not path.is_file() or not path.stat().st_size:
        raise LogError(f"{path} is empty or no file; download it from {page}")
    try:
        return datasets.load_dataset(
            builder, data_files=glob.escape(str(path.resolve())), split="train", cache_dir=cache
        )
    except (
        DatasetsError,
        pa.ArrowException,
        ValueError,
        OSError,
        EOFError,
        zlib.error,
    ) as error:
        cause = error.__cause__ or error
        raise LogError(
            f"{path} is not readable as {builder}: {type(cause).__name__}: {cause}; "
            f"download it again from {page}"
        ) from error


def _builder(path: Path, page: str) -> str:
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if ending in {".pkl", ".pickle"}:
        raise UsageError(
            f"{path} is a pickle, and reading a pickle runs whatever code is in it; fetch "
            f"the set by name from {page}, or, where you trust the file, convert it "
            f"apart from here: python -c \"import pandas; pandas.read_pickle('{path.name}')"
            f".to_parquet('{path.stem}.parquet')\""
        )
    if ending not in _BUILDERS:
        raise UsageError(
            f"{path}: the ending {ending or '(none)'!r} is none of those that are read; "
            f"give a file with {', '.join(_BUILDERS)}"
        )
    return _BUILDERS[ending]
