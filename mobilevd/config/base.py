"""The base class of every part of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ConfigModel(BaseModel):
    """A model that refuses unknown keys and never converts a value's type: "10" is no number, 1 is no bool."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
