"""Transforms as a configuration spells them."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from mobilevd.config.transforms import AnyTransform
from mobilevd.transforms import Transform, make_transform

ANY: TypeAdapter[Any] = TypeAdapter(AnyTransform)


def transform_of(spec: dict[str, Any]) -> Transform[Any]:
    """The transform of a mapping with `kind`, checked as the configuration checks it."""
    return make_transform(ANY.validate_python(spec))
