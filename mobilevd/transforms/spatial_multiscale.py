"""Fewer pixels in all but the outermost stages of the UNet."""

from __future__ import annotations

from mobilevd.config.transforms import SpatialMultiscaleSettings
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.base import Transform, rebuild
from mobilevd.transforms.temporal_multiscale import scale_changes


class SpatialMultiscale(Transform[SpatialMultiscaleSettings]):
    """Divide height and width by `factor` behind the first down block, and restore them before the last up block.

    No weight changes (MobileVD, the multiscaling table; the places are those of temporal multiscaling).
    """

    def begin(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        return rebuild(unet, **scale_changes(unet, "spatial_scale", self.settings))
