"""The contract of a denoiser: all that discriminator, export, profile, FLOPs and pruning ask of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import Tensor, nn

from mobilevd.errors import UserError
from mobilevd.model.anatomy import Block


class Backbone(ABC):
    """A network F that estimates clean clips from noisy ones, made of blocks.

    A backbone is a `torch.nn.Module` with a config (diffusers' `ConfigMixin`) that describes it completely.

    Shapes: sample (B, T, C, H, W), noisy latents and conditioning latents side by side; timestep (B,) or (1,), the noise
    level as the network sees it, c_noise = ln(sigma) / 4; image_embedding (B, 1, D), the image token; added_time_ids
    (B, 3): fps - 1, motion bucket, noise-augmentation strength.
    """

    @property
    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """Everything that the architecture depends on."""

    # -- what it computes -------------------------------------------------------------------------------------------

    @abstractmethod
    def embed_time(self, timestep: Tensor, added_time_ids: Tensor) -> Tensor:
        """Noise level and micro-conditioning -> embedding (B, E), in the form that every layer takes."""

    @abstractmethod
    def denoise_frames(self, x: Tensor, embedding: Tensor, context: Tensor, num_frames: int) -> Tensor:
        """The body in tensors of rank <= 4: frames (B*T, C_in, H, W) -> (B*T, C_out, H, W)."""

    @abstractmethod
    def encoder_features(
        self, sample: Tensor, timestep: Tensor, image_embedding: Tensor, added_time_ids: Tensor
    ) -> list[Tensor]:
        """Feature maps for a discriminator: (B*T, C_i, h_i, w_i) per level, finest first, on all frames."""

    @property
    @abstractmethod
    def encoder_channels(self) -> list[int]:
        """The channels C_i of the maps of `encoder_features`."""

    @abstractmethod
    def encoder(self) -> Self:
        """A copy with the same weights for calls of `encoder_features` alone; all other layers are left out."""

    @abstractmethod
    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Compute activations again in the backward pass instead of keeping them."""

    @abstractmethod
    def set_training_form(self) -> None:
        """Compute the same function, with the same gradients, in the form that trains fastest."""

    # -- what it is made of -----------------------------------------------------------------------------------------

    @abstractmethod
    def blocks(self) -> list[Block]:
        """The blocks in the order of the forward pass."""

    @abstractmethod
    def time_mixers(self) -> Mapping[str, nn.Module]:
        """The blend of each temporal block, where gates are set, by the block's name in forward order."""

    def temporal_block_names(self) -> list[str]:
        """Names of the blocks that have a temporal part, in the order of the forward pass (SVD: 38)."""
        return list(dict.fromkeys(block.name for block in self.blocks() if block.temporal))

    @abstractmethod
    def derive(self, **changes: Any) -> Self:
        """A new, randomly initialized model of this config with `changes`, on the same device and of the same dtype."""

    # -- the sizes it takes -----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def size_multiple(self) -> int:
        """The number that height and width of the latents must be divisible by."""

    @property
    def latent_channels(self) -> int:
        """Channels of the estimated latents."""
        return int(self.config["out_channels"])

    @property
    def condition_channels(self) -> int:
        """Channels of the conditioning latents beside them."""
        return int(self.config["in_channels"]) - self.latent_channels

    @property
    def context_dim(self) -> int:
        """D, the width of the image token."""
        width: int | Sequence[int] = self.config["cross_attention_dim"]
        return width if isinstance(width, int) else width[0]

    @property
    def num_frames(self) -> int:
        """The number of frames T that the model was made for."""
        return int(self.config["num_frames"])

    @property
    def latent_size(self) -> tuple[int, int] | None:
        """The working size (height, width) in latents that the config records; None if it records none.

        diffusers writes one number, the side of a square.
        """
        size: int | Sequence[int] | None = self.config["sample_size"]
        if size is None:
            return None
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    def check_size(self, num_frames: int, height: int, width: int) -> None:
        """Raise UserError unless latents of this size fit all levels and scales."""
        multiple = self.size_multiple
        if height % multiple or width % multiple:
            raise UserError(
                f"latents of {height}x{width} do not fit this UNet: height and width must be divisible by {multiple}"
            )
        if num_frames % int(self.config["temporal_scale"]):
            raise UserError(
                f"{num_frames} frames do not fit this UNet: they must be divisible by its temporal scale "
                f"{self.config['temporal_scale']}"
            )
