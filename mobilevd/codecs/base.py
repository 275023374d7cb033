"""The contract of a codec: SVD's maps around the UNet, and the sizes and factors that the UNet must know."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from mobilevd.errors import UserError


class Codec(nn.Module, ABC):
    """Frames to latents and back, and an embedding of the conditioning image; frozen while a UNet trains.

    Frames and images are float RGB in [-1, 1]. Diffusion runs on scaled latents (about zero mean and unit
    variance); the latents of the conditioning image stay unscaled, as in SVD (`encode_condition`).
    """

    name: str
    latent_channels: int  # C of a latent
    spatial_factor: int  # pixels per latent, in height and in width
    scaling_factor: float  # scaled latent per unscaled latent
    embedding_dim: int  # D of `embed_image`

    @abstractmethod
    def encode_condition(self, image: torch.Tensor) -> torch.Tensor:
        """Image (B, 3, H, W) to its unscaled latent (B, C, H / f, W / f); deterministic (the mode)."""

    @abstractmethod
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (N, 3, H, W) to scaled latents (N, C, H / f, W / f); deterministic (the mode)."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents (B, T, C, h, w) to frames (B, T, 3, h * f, w * f) in [-1, 1]."""

    @abstractmethod
    def embed_image(self, image: torch.Tensor) -> torch.Tensor:
        """Image (B, 3, H, W) to its embedding (B, 1, D), the only token of cross-attention."""

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Latent height and width of a `height` x `width` picture; UserError if it does not divide."""
        if height % self.spatial_factor or width % self.spatial_factor:
            raise UserError(
                f"picture size {height}x{width} (height x width) does not divide by {self.spatial_factor}, "
                f"the spatial factor of the codec {self.name}"
            )
        return height // self.spatial_factor, width // self.spatial_factor
