"""Fewer frames in all but the outermost stages of the UNet."""

from __future__ import annotations

from typing import Any

from mobilevd.config.transforms import SpatialMultiscaleSettings, TemporalMultiscaleSettings
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.base import Transform, rebuild


def scale_changes(
    unet: SpatioTemporalUNet, key: str, settings: TemporalMultiscaleSettings | SpatialMultiscaleSettings
) -> dict[str, Any]:
    """The config changes that set `key` (temporal_scale or spatial_scale) to the settings' factor.

    Raises UserError if the UNet already has this scale, or another operator along the other axis, or a number of frames
    or a size that is not divisible.
    """
    kind, factor, operator = settings.kind, settings.factor, settings.operator
    if int(unet.config[key]) > 1:
        raise UserError(f"transform {kind}: this UNet already has {key} {unet.config[key]}")
    other = "spatial_scale" if key == "temporal_scale" else "temporal_scale"
    if int(unet.config[other]) > 1 and unet.config["scale_operator"] != operator:
        raise UserError(
            f"transform {kind}: operator {operator!r}, but this UNet's {other} uses "
            f"{unet.config['scale_operator']!r}; one UNet has one operator for both"
        )
    if key == "temporal_scale" and unet.num_frames % factor:
        raise UserError(f"transform {kind}: {unet.num_frames} frames are not divisible by factor {factor}")
    size = unet.latent_size
    if key == "spatial_scale" and size is not None:
        multiple = unet.size_multiple * factor
        if size[0] % multiple or size[1] % multiple:
            raise UserError(
                f"transform {kind}: latents of {size[0]}x{size[1]} do not fit factor {factor}; height and width must "
                f"be divisible by {multiple}"
            )
    return {key: factor, "scale_operator": operator}


class TemporalMultiscale(Transform[TemporalMultiscaleSettings]):
    """Divide the frames by `factor` behind the first down block, and restore them before the last up block.

    No weight changes. The level-0 skips keep all frames, the deeper ones have fewer (MobileVD, "temporal multiscaling";
    factor 2 is what the published FLOPs say, the operator is not published).
    """

    def begin(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        return rebuild(unet, **scale_changes(unet, "temporal_scale", self.settings))
