"""What the sections of `params.yaml` have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["NotNegative", "ParamSection", "Seed", "Share"]

Share = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class ParamSection(BaseModel):
    """A section: an unknown key is an error, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
