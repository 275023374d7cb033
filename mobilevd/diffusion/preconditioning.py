"""EDM preconditioning as SVD uses it (Karras et al. 2022, table 1, with sigma_data = 1 and a v-prediction network).

`D(x; s) = c_skip x + c_out F(c_in x; c_noise)`
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


def c_skip(sigma: Tensor) -> Tensor:
    return 1 / (sigma**2 + 1)


def c_out(sigma: Tensor) -> Tensor:
    return -sigma / (sigma**2 + 1).sqrt()


def c_in(sigma: Tensor) -> Tensor:
    return 1 / (sigma**2 + 1).sqrt()


def c_noise(sigma: Tensor) -> Tensor:
    return 0.25 * sigma.log()


def loss_weight(sigma: Tensor) -> Tensor:
    """(1 + s^2) / s^2: gives the network's own target unit weight at every noise level."""
    return (1 + sigma**2) / sigma**2


class Network(Protocol):
    """F of the equation: the UNet's call."""

    def __call__(
        self, sample: Tensor, timestep: Tensor, image_embedding: Tensor, added_time_ids: Tensor, /
    ) -> Tensor: ...


class Conditions:
    """The conditions of a clip.

    Attributes:
        image_latents: (B, 4, h, w) latents of the (noise-augmented) first frame, not multiplied by the scaling factor.
        image_embedding: (B, 1, D).
        added_time_ids: (B, 3).
    """

    def __init__(self, image_latents: Tensor, image_embedding: Tensor, added_time_ids: Tensor) -> None:
        self.image_latents = image_latents
        self.image_embedding = image_embedding
        self.added_time_ids = added_time_ids

    def unconditional(self) -> Conditions:
        """SVD's negative condition for guidance: no image (zeros), the same micro-conditioning."""
        return Conditions(
            torch.zeros_like(self.image_latents), torch.zeros_like(self.image_embedding), self.added_time_ids
        )

    def drop(self, keep: Tensor) -> Conditions:
        """`unconditional` for the clips whose `keep` (B,) is 0, and as they are where it is 1: for guidance training."""
        return Conditions(
            self.image_latents * keep[:, None, None, None],
            self.image_embedding * keep[:, None, None],
            self.added_time_ids,
        )

    def __getitem__(self, index: slice) -> Conditions:
        return Conditions(self.image_latents[index], self.image_embedding[index], self.added_time_ids[index])


def denoise(network: Network, x: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
    """The denoiser D: noisy latents x (B, T, 4, h, w) at noise levels sigma (B,) -> estimate of the clean ones."""
    s = _beside(x, sigma)
    out = network(*_scaled_inputs(x, s, sigma, conditions))
    return c_skip(s) * x + c_out(s) * out.to(x.dtype)


def network_inputs(x: Tensor, sigma: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The arguments of F for noisy latents x (B, T, 4, h, w) at noise levels sigma (B,).

    Returns sample (B, T, 8, h, w), c_in x with the first frame's latents beside every frame; timestep (B,), c_noise; image
    embedding (B, 1, D); added time ids (B, 3).
    """
    return _scaled_inputs(x, _beside(x, sigma), sigma, conditions)


def _beside(x: Tensor, sigma: Tensor) -> Tensor:
    """Noise levels (B,) as (B, 1, 1, 1, 1), of the type of x."""
    return sigma.to(x.dtype)[:, None, None, None, None]


def _scaled_inputs(
    x: Tensor, s: Tensor, sigma: Tensor, conditions: Conditions
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    image = conditions.image_latents[:, None].expand(-1, x.shape[1], -1, -1, -1)
    sample = torch.cat([c_in(s) * x, image.to(x.dtype)], dim=2)
    return sample, c_noise(sigma), conditions.image_embedding, conditions.added_time_ids
