"""A change of the working size: the weights stay, the data changes."""

from __future__ import annotations

from mobilevd.config.transforms import ResolutionSettings
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.base import Transform


class Resolution(Transform[ResolutionSettings]):
    """Work at `height` x `width` pixels from this stage on.

    The model is as it was. The codec determines the number of pixels per latent, so the caller records the size in
    latents with `record_latent_size`; `mobilevd flops --model` counts at that size.
    """


def record_latent_size(unet: SpatioTemporalUNet, height: int, width: int) -> None:
    """Write the working size, in latents, into the model's config as `sample_size`: [height, width].

    Raises UserError if the UNet cannot run at that size.
    """
    unet.check_size(unet.num_frames, height, width)
    unet.register_to_config(sample_size=[height, width])
