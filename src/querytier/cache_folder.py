"""Where files are kept that save time, and nothing else."""

import os
from pathlib import Path

__all__ = ["default_cache_folder"]


def default_cache_folder() -> Path:
    """Return `$QUERYTIER_CACHE`, else `querytier` in `$XDG_CACHE_HOME`, else `~/.cache/querytier`.

    Embeddings by All-MiniLM-L6-v2 take 1.6 kB a view: 22 MB for 14,000 views, 1.6 GB for a million.
    Artifacts fetched from a registry lie there, too. Nothing is removed by itself; whoever deletes
    the folder loses time only.
    """
    own = os.environ.get("QUERYTIER_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "querytier"
