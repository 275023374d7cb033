"""A change of the working size: the weights stay, the data changes."""

from __future__ import annotations

from mobilevd.config.transforms import ResolutionSettings
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.base import Transform


class Resolution(Transform[ResolutionSettings]):
    """Work at `height` x `width` pixels from this stage on.

    The model is as it was. The codec determines the number of pixels per latent, so the caller records the size in
    latents with `record_size`; `mobilevd flops --model` counts at that size.
    """


def record_size(unet: SpatioTemporalUNet, num_frames: int, height: int, width: int) -> None:
    """Write the number of frames and the working size, in latents, into the model's config.

    They stand as `num_frames` and as `sample_size`: [height, width]. Raises UserError if the UNet cannot run at that size.
    """
    unet.check_size(num_frames, height, width)
    unet.register_to_config(num_frames=num_frames, sample_size=[height, width])
