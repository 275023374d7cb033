"""The lowest layer (model, diffusion, codecs, transforms, configuration) and the highest (commands, pipeline)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobilevd.model.unet import SpatioTemporalUNet

__version__ = "0.1.0"
__all__ = ["SpatioTemporalUNet", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on first use: torch takes seconds, and `mobilevd --help` does not need it.
    if name == "SpatioTemporalUNet":
        from mobilevd.model.unet import SpatioTemporalUNet

        return SpatioTemporalUNet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
