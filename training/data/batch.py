"""Batches that depend on the step's number and the place in the global batch alone: the same ones after a kill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from mobilevd.codecs.base import Codec
from mobilevd.diffusion.conditioning import condition_on_image
from mobilevd.diffusion.preconditioning import Conditions
from mobilevd.pixels import to_float
from training.data.draws import Draws
from training.data.order import Order
from training.data.prefetch import Prefetch

# ln of the noise-augmentation strength of the conditioning frame in SVD's training (recalled, not published with it)
AUG_P_MEAN, AUG_P_STD = -3.0, 0.5


@dataclass(frozen=True)
class StoredClip:
    """The data of a clip that training needs.

    Attributes:
        latents: (T, C, h, w), scaled, float16 or float32.
        first_frame: uint8 (3, H, W). Kept as pixels, because the conditioning noise is added before encoding.
        embedding: (1, D) of the first frame.
        motion_bucket: SVD's conditioning on the amount of motion.
    """

    latents: Tensor
    first_frame: Tensor
    embedding: Tensor
    motion_bucket: float


class ClipStore(Protocol):
    """Encoded clips by number; those of one size follow one another."""

    @property
    def sizes(self) -> list[int]:
        """Number of clips of every size."""
        ...

    def read(self, numbers: Sequence[int]) -> list[StoredClip]:
        """The clips of these numbers."""
        ...


@dataclass
class Batch:
    """Clean latents (B, T, 4, h, w) and their conditions."""

    latents: Tensor
    conditions: Conditions


@dataclass(frozen=True)
class Read:
    """The clips of a batch, stacked, on the CPU: latents and embeddings as stored, first frames uint8 (B, 3, H, W)."""

    latents: Tensor
    first_frames: Tensor
    embeddings: Tensor
    motion_buckets: Tensor

    def pinned(self) -> Read:
        return Read(*(getattr(self, each.name).pin_memory() for each in fields(self)))


class BatchSource:
    """Reads batches of encoded clips and encodes their noise-augmented first frames as conditions.

    Args:
        store: the clips.
        codec: encodes first frames.
        fps: frame rate of the clips, a condition.
        device: device of the batches.
        batch_size: clips per optimizer step, over all processes together.
        seed: seed of the order of the clips.
        half: the first frames are encoded in bfloat16.
    """

    def __init__(
        self,
        store: ClipStore,
        codec: Codec,
        fps: float,
        device: torch.device,
        batch_size: int,
        seed: int,
        half: bool = False,
    ) -> None:
        self.store, self.codec, self.fps, self.device, self.half = store, codec, fps, device, half
        self.order = Order(store.sizes, batch_size, seed)
        self._prefetch: Prefetch[tuple[int, int, tuple[int, ...]], Read] = Prefetch(self._read)

    def draw(self, step: int, phase: int, places: Sequence[int], draws: Draws) -> Batch:
        """The clips at `places` of the batch of `step` in the training of `phase`, with conditions.

        The noise-augmentation strength is drawn per clip, ln ~ N(-3, 0.5^2). UserError if a clip cannot be read.
        """
        read = self._prefetch.take((step, phase, tuple(places)))
        latents = read.latents.to(self.device, non_blocking=True).float()
        images = to_float(read.first_frames.to(self.device, non_blocking=True))
        embeddings = read.embeddings.to(self.device, non_blocking=True).float()
        strength = torch.exp(AUG_P_MEAN + AUG_P_STD * draws.normal()).to(self.device)
        noise = draws.normal(*images.shape[1:]).to(self.device)
        buckets = read.motion_buckets
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            conditions = condition_on_image(self.codec, images, embeddings, self.fps, buckets, strength, noise)
        return Batch(latents, conditions)

    def announce(self, step: int, phase: int, places: Sequence[int]) -> None:
        """Tell which batch will be asked for next: it is read meanwhile. What goes wrong is raised by `draw`."""
        self._prefetch.announce((step, phase, tuple(places)))

    def _read(self, key: tuple[int, int, tuple[int, ...]]) -> Read:
        clips = self.store.read(self.order.clips(*key))
        read = Read(
            torch.stack([clip.latents for clip in clips]),
            torch.stack([clip.first_frame for clip in clips]),
            torch.stack([clip.embedding for clip in clips]),
            torch.tensor([clip.motion_bucket for clip in clips]),
        )
        # pinned, so that the copy to the GPU runs beside the computation
        return read.pinned() if self.device.type == "cuda" else read
