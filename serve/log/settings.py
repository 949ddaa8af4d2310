"""How decisions are logged: what is kept of a query, when files change, what a crash may lose."""

from dataclasses import dataclass, field
from typing import Literal, get_args

__all__ = ["Fsync", "KeptText", "LogSettings", "WhenFull"]

Fsync = Literal["always", "interval", "never"]
WhenFull = Literal["drop", "block"]
KeptText = Literal["full", "redacted", "hash"]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How decisions are logged.

    What may be lost: nothing where the log is closed; what waits in the buffer, usually some
    milliseconds' worth, where the process is killed; and where the machine fails, what came since
    the file was last forced to disk.

    Attributes
    ----------
    max_bytes : int
        A file of decisions does not grow beyond this, but for a single line that is longer.
    max_age_s : float or None
        The first decision after so many seconds begins a new file; None changes files by size only.
    keep : int or None
        So many closed files are kept, the oldest are deleted first; None keeps all.
    buffer : int
        Lines that may wait to be written.
    when_full : {"drop", "block"}
        Whether a line that finds the buffer full is dropped, and counted, or waits. It only waits
        for a slow disk: while writing fails, lines are dropped, as no request may hang on a log.
    fsync : {"always", "interval", "never"}
        Whether lines are forced to disk each time that some were written, every `interval_s`, or
        when the operating system sees fit.
    interval_s : float
        Above 0.
    text : {"full", "redacted", "hash"}
        Whether queries are written as they are, with personal data replaced
        (`querytier.data.ingest.redaction`; needs the extra `train`), or as a hash, from which
        nothing can be learned.
    salt : str
        Keeps hashes from being found by trying queries out; whoever has it can.

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
                raise ValueError(f"{name} is {getattr(self, name)!r}; it is one of {words}")
