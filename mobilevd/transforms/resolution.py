"""Going on at another size: the weights stay, the data changes."""

from __future__ import annotations

from mobilevd.errors import UserError
from mobilevd.transforms.base import Transform
from mobilevd.unet import SpatioTemporalUNet


class Resolution(Transform):
    """Work at `height` x `width` pixels from this stage on.

    The model is as it was. How many latents a pixel makes is the codec's matter, so the caller tells the size in
    latents with `record_latent_size`, which is what `mobilevd flops --model` counts at.
    """

    kind = "resolution"

    def __init__(self, height: int, width: int) -> None:
        if height < 1 or width < 1:
            raise UserError(f"transform resolution: {height}x{width} pixels is no size; both must be positive")
        self.height, self.width = height, width


def record_latent_size(unet: SpatioTemporalUNet, height: int, width: int) -> None:
    """Write the working size, in latents, into the model's config as `sample_size`: [height, width].

    Raises UserError if the UNet cannot run at that size.
    """
    unet.check_size(int(unet.config["num_frames"]), height, width)
    unet.register_to_config(sample_size=[height, width])


def latent_size(unet: SpatioTemporalUNet) -> tuple[int, int] | None:
    """The working size (height, width) in latents that the config records; None if it records none.

    diffusers writes one number, the side of a square.
    """
    size = unet.config["sample_size"]
    if size is None:
        return None
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
