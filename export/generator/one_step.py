"""The one-step generator as one graph of tensors of rank <= 4: unit noise and conditions in, clean latents out.

With one step the noise level and the micro-conditioning are constants of the program, so all that depends on them alone
is computed here, once: the preconditioning's factors and the time embedding. If the micro-conditioning is to be chosen
on the device, it stays an input and the time embedding stays in the graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from device_runner.bundle.whole_path import IMAGE_EMBEDDING, IMAGE_LATENTS, NOISE
from mobilevd.diffusion.conditioning import added_time_ids
from mobilevd.diffusion.preconditioning import c_in, c_noise, c_out, c_skip
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet

INPUTS = (NOISE, IMAGE_LATENTS, IMAGE_EMBEDDING)


@dataclass(frozen=True)
class OneStepSettings:
    """The constants of an exported generator.

    Attributes:
        latent_height, latent_width, num_frames: the program's only size.
        sigma: the noise level, in units of the latents' standard deviation.
        fps, motion_bucket_id, noise_aug_strength: the micro-conditioning (SVD's defaults).
        spatial_factor: pixels per latent, to record the size of the frames.
        conditioning_inputs: the micro-conditioning is an input of the program (`added_time_ids`); the numbers here are
            only its reference values.

    Raises UserError for a number that none of them can be.
    """

    latent_height: int
    latent_width: int
    num_frames: int
    sigma: float = 700.0
    fps: float = 7
    motion_bucket_id: float = 127
    noise_aug_strength: float = 0.02
    spatial_factor: int = 8
    conditioning_inputs: bool = False

    def __post_init__(self) -> None:
        for name in ("latent_height", "latent_width", "num_frames", "spatial_factor"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"export: {name} is {value}; it must be a whole number from 1")
        for name in ("sigma", "fps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"export: {name} is {value}; it must be a finite number above 0")
        for name in ("motion_bucket_id", "noise_aug_strength"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"export: {name} is {value}; it must be a finite number from 0")

    def time_ids(self) -> Tensor:
        """Micro-conditioning (1, 3) as the network takes it: fps - 1, motion bucket, noise-augmentation strength."""
        return added_time_ids(1, self.fps, self.motion_bucket_id, self.noise_aug_strength)


class OneStepGenerator(nn.Module):
    """`D(sigma n; sigma) = c_skip sigma n + c_out F(c_in sigma n; c_noise)` for unit noise n, at one sigma, batch 1.

    The program never sees a number as large as sigma (700): n is multiplied by `c_in sigma`, which is close to 1, and
    by `c_skip sigma`, which is close to 1 / sigma.

    Args:
        unet: a finished model (no live funnels or gates); it is used as it is, not copied.

    Raises:
        UserError: the model is in the middle of a stage (`check_finished`).
    """

    embedding: Tensor
    timestep: Tensor

    def __init__(self, unet: SpatioTemporalUNet, settings: OneStepSettings) -> None:
        super().__init__()
        check_finished(unet)
        self.unet = unet
        self.settings = settings
        weight = unet.conv_in.weight
        # float64: 0.25 ln(sigma) and the factors are rounded once, to the program's own precision
        s = torch.tensor(float(settings.sigma), dtype=torch.float64)
        self.noise_to_input = float(c_in(s) * s)
        self.noise_to_output = float(c_skip(s) * s)
        self.network_to_output = float(c_out(s))
        self.register_buffer("timestep", c_noise(s).reshape(1).to(weight.device, weight.dtype))
        with torch.no_grad():
            ids = settings.time_ids().to(weight.device, weight.dtype)
            self.register_buffer("embedding", unet.embed_time(self.timestep, ids))

    def forward(
        self, noise: Tensor, image_latents: Tensor, image_embedding: Tensor, added_time_ids: Tensor | None = None
    ) -> Tensor:
        """Generate a clip.

        Args:
            noise: (T, 4, h, w) of unit variance.
            image_latents: (1, 4, h, w) conditioning latents of the first frame, not scaled.
            image_embedding: (1, 1, D).
            added_time_ids: (1, 3) micro-conditioning; None takes that of the settings.

        Returns:
            (T, 4, h, w) denoised latents, scaled.
        """
        frames = self.settings.num_frames
        embedding = self.embedding
        if added_time_ids is not None:
            embedding = self.unet.embed_time(self.timestep, added_time_ids)
        image = image_latents.expand(frames, -1, -1, -1)
        network_input = torch.cat([noise * self.noise_to_input, image], dim=1)  # (T, 8, h, w)
        out = self.unet.denoise_frames(network_input, embedding, image_embedding, frames)
        return noise * self.noise_to_output + out * self.network_to_output


def check_finished(unet: SpatioTemporalUNet) -> None:
    """Raise UserError if a stage is still under way in `unet`: channel funnels not merged, temporal gates not decided."""
    if unet.config["live_funnels"]:
        raise UserError(
            "the model holds channel funnels that are still layers of their own; finish the stage 'funnels' "
            "(it merges them) and export the model it leaves"
        )
    if unet.config["temporal_gates"]:
        raise UserError(
            "the model holds temporal gates that are not decided yet; finish the stage 'temporal_pruning' "
            "(it deletes the blocks that are not kept) and export the model it leaves"
        )
