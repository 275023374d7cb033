"""The clips to be encoded, by size, and what else their latents depend on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mobilevd.codecs.base import Codec
from training.data.clips import Clip
from training.data.store.decoding import DecodeJob


@dataclass(frozen=True)
class ClipGroup:
    """Clips of one size, and SVD's conditioning on the amount of motion for each of them.

    `crop` is width / height of what is read of their frames; another than the size's is stretched to it.
    """

    height: int
    width: int
    clips: Sequence[Clip]
    motion_buckets: Sequence[float]
    crop: float | None = None

    def __post_init__(self) -> None:
        if len(self.clips) != len(self.motion_buckets):
            raise ValueError(f"{len(self.clips)} clips with {len(self.motion_buckets)} motion buckets")

    @property
    def is_stretched(self) -> bool:
        """True if the crop has another shape than the size."""
        return self.crop is not None and not math.isclose(self.crop, self.width / self.height, rel_tol=1e-6)


@dataclass(frozen=True)
class ClipSet:
    """All clips of a training: one group for every size, each of `num_frames` frames at `fps`."""

    groups: Sequence[ClipGroup]
    num_frames: int
    fps: float

    def __len__(self) -> int:
        return sum(len(group.clips) for group in self.groups)

    def job(self, group: ClipGroup, number: int) -> DecodeJob:
        """What a decoder needs to read one clip of a group."""
        clip = group.clips[number]
        size = group.height, group.width
        return DecodeJob(clip.video, clip.start_s, self.num_frames, self.fps, *size, group.crop)

    def clip_bytes(self, group: ClipGroup, codec: Codec) -> int:
        """Bytes of a stored clip, about: the first frame is taken at 0.6 of its pixels, as photographs compress."""
        height, width = codec.latent_size(group.height, group.width)
        latents = 2 * self.num_frames * codec.latent_channels * height * width
        return latents + 2 * codec.embedding_dim + int(0.6 * 3 * group.height * group.width) + 1000
