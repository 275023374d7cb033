"""The base class of every part of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# YAML has no paths: text is accepted for one here, though types are strict elsewhere.
PathValue = Annotated[Path, Field(strict=False)]


class ConfigModel(BaseModel):
    """A model that refuses unknown keys and never converts a value's type: "10" is no number, 1 is no bool."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
