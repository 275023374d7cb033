"""Fewer pixels in all but the outermost stages of the UNet."""

from __future__ import annotations

from mobilevd.transforms.base import Transform, rebuild
from mobilevd.transforms.temporal_multiscale import check_factor, scale_changes
from mobilevd.unet import SpatioTemporalUNet


class SpatialMultiscale(Transform):
    """Divide height and width by `factor` behind the first down block, restore them before the last up block.

    No weight changes (MobileVD, the multiscaling table; the places are those of temporal multiscaling).
    """

    kind = "spatial_multiscale"

    def __init__(self, factor: int = 2, operator: str = "average") -> None:
        check_factor(self.kind, factor, operator)
        self.factor, self.operator = factor, operator

    def begin(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        return rebuild(unet, **scale_changes(unet, self.kind, "spatial_scale", self.factor, self.operator))
