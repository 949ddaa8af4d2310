"""How decisions are logged: the text of queries, rotation of files, what a crash may lose."""

from dataclasses import dataclass, field
from typing import Literal, get_args

__all__ = ["Fsync", "KeptText", "LogSettings", "WhenFull"]

Fsync = Literal["always", "interval", "never"]
WhenFull = Literal["drop", "block"]
KeptText = Literal["full", "redacted", "hash"]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How decisions are logged.

    What may be lost: nothing if the log is closed; the lines in the buffer, usually a few
    milliseconds' worth, if the process is killed; and if the machine fails, every line since the
    file was last forced to disk.

    Attributes
    ----------
    max_bytes : int
        Largest size of a file of decisions; only a single longer line exceeds it.
    max_age_s : float or None
        Age in seconds at which the next decision begins a new file; None rotates by size only.
    keep : int or None
        Number of closed files to keep, the oldest are deleted first; None keeps all.
    buffer : int
        Number of lines that may wait to be written.
    when_full : {"drop", "block"}
        Whether a line is dropped and counted if the buffer is full, or waits. It waits for a slow
        disk only: while writing fails, lines are dropped, because no request may hang on a log.
    fsync : {"always", "interval", "never"}
        Whether lines are forced to disk after every write, every `interval_s`, or when the
        operating system chooses.
    interval_s : float
        Seconds, above 0.
    text : {"full", "redacted", "hash"}
        Whether queries are written in full, with personal data replaced
        (`querytier.data.ingest.redaction`; needs the extra `train`), or as a hash, which no
        training can use.
    salt : str
        Key of the hashes; without it, anyone can test a guessed query against the log.

    Raises
    ------
    ValueError
        If one of them is out of range.
    """

    max_bytes: int = 100_000_000
    max_age_s: float | None = 86_400.0
    keep: int | None = None
    buffer: int = 10_000
    when_full: WhenFull = "drop"
    fsync: Fsync = "interval"
    interval_s: float = 1.0
    text: KeptText = "full"
    salt: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_age_s", "keep", "buffer", "interval_s"):
            value = getattr(self, name)
            optional = name in ("max_age_s", "keep")
            if not (value is None and optional) and not 0 < (value or 0) < float("inf"):
                none = ", or None for no limit" if optional else ""
                raise ValueError(f"{name} is {value}; it has to be a number above 0{none}")
        choices = {"when_full": WhenFull, "fsync": Fsync, "text": KeptText}
        for name, known in choices.items():
            if getattr(self, name) not in get_args(known):
                words = ", ".join(get_args(known))
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {words}")
