"""Changes of the UNet's architecture, one file each: what a stage does before its training and after it."""

from mobilevd.transforms.base import Transform, make_transform

__all__ = ["Transform", "make_transform"]
