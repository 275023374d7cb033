"""Encoded clips in memory, for data that is small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from training.data.batch import StoredClip


@dataclass
class MemoryStore:
    """A `ClipStore` of clips of one size.

    Attributes:
        latents: (N, T, C, h, w), scaled.
        first_frames: uint8 (N, 3, H, W).
        embeddings: (N, 1, D) of the first frames.
        motion_bucket: of all clips.
    """

    latents: Tensor
    first_frames: Tensor
    embeddings: Tensor
    motion_bucket: float = 127

    @property
    def sizes(self) -> list[int]:
        return [len(self.latents)]

    def read(self, numbers: Sequence[int]) -> list[StoredClip]:
        return [
            StoredClip(self.latents[i], self.first_frames[i], self.embeddings[i], self.motion_bucket) for i in numbers
        ]
