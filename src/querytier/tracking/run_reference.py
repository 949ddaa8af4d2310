"""Where a run is logged, kept between stages."""

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RunReference"]


@dataclass(frozen=True, slots=True)
class RunReference:
    """Where a run is logged, kept between stages.

    Attributes
    ----------
    tracking_uri, experiment_id, run_id : str
    """

    tracking_uri: str
    experiment_id: str
    run_id: str

    def write(self, path: Path) -> None:
        """Write the reference as JSON."""
        content = {name: getattr(self, name) for name in self.__slots__}
        path.write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "RunReference":
        """Read what `write` wrote."""
        return cls(**json.loads(path.read_text()))
