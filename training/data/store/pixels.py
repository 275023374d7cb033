"""Training without a cache: clips decoded and encoded when they are asked for, by the numbers that a cache would have."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch

from mobilevd.codecs.base import Codec
from mobilevd.errors import UserError
from training.data.batch import StoredClip
from training.data.store.decoding import (
    JOBS_PER_WORKER,
    ClipDecoder,
    Decoded,
    DecodeJob,
    default_workers,
    result_of,
    uncompressed,
)
from training.data.store.groups import ClipSet
from training.data.store.pieces import Encoder, default_precision, device_of, is_storable


class PixelStore:
    """Clips from their videos, a `ClipStore`: the same as in a cache of them, rounded to float16 as there.

    A cache leaves out a clip that cannot be read; here the next one of its size takes its place, and `skipped` says so.

    Args:
        workers: processes that decode; None: one per core, 0: none.
        precision: "bf16" or "fp32"; None: bf16 on a GPU, else fp32.
    """

    def __init__(self, clips: ClipSet, codec: Codec, workers: int | None = None, precision: str | None = None) -> None:
        self.clips, self.codec, self._wanted = clips, codec, workers
        for group in clips.groups:
            codec.latent_size(group.height, group.width)
        self.precision = precision or default_precision(device_of(codec))
        self.skipped: dict[int, str] = {}
        self._ends = list(accumulate(len(group.clips) for group in clips.groups))
        self._encoders: dict[int, Encoder] = {}
        self._decoder: ClipDecoder | None = None

    @property
    def sizes(self) -> list[int]:
        return [len(group.clips) for group in self.clips.groups]

    def read(self, numbers: Sequence[int]) -> list[StoredClip]:
        """The clips of these numbers, decoded side by side. UserError if no clip of a size can be read."""
        if self._decoder is None:  # workers are started when they are needed, and live as long as the training
            wanted = default_workers() if self._wanted is None else self._wanted
            self._decoder = ClipDecoder(wanted, wanted * JOBS_PER_WORKER)
        decoder = self._decoder
        waiting = []
        for number in numbers:
            usable = self._usable(number)
            waiting.append((number, usable, decoder.submit(self._job(usable))))
        return [self._finished(number, usable, result_of(future)) for number, usable, future in waiting]

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _finished(self, number: int, usable: int, decoded: Decoded) -> StoredClip:
        """The clip that was decoded, which is `usable`, or one in its place."""
        while True:
            if decoded.pixels is None:
                self.skipped[usable] = decoded.reason
            else:
                latents, embeddings = self._encoder(self._group(usable)).encode([decoded.pixels])
                if is_storable(latents, embeddings):
                    frame = torch.from_numpy(uncompressed(decoded.first_frame)).permute(2, 0, 1)
                    return StoredClip(latents[0], frame, embeddings, self._motion_bucket(usable))
                self.skipped[usable] = "its latents are beyond what float16 holds"
            usable = self._usable(number)
            assert self._decoder is not None
            decoded = result_of(self._decoder.submit(self._job(usable)))

    def _usable(self, number: int) -> int:
        """The clip itself, or the next of its size that is not known to be unreadable."""
        group = self._group(number)
        end = self._ends[group]
        first = end - len(self.clips.groups[group].clips)
        for step in range(end - first):
            candidate = first + (number - first + step) % (end - first)
            if candidate not in self.skipped:
                return candidate
        raise UserError(f"none of the {end - first} clips of a size can be read, first {self.skipped[number]}")

    def _group(self, number: int) -> int:
        if not 0 <= number < self._ends[-1]:
            raise IndexError(f"clip {number} of {self._ends[-1]}")
        return bisect_right(self._ends, number)

    def _place(self, number: int) -> tuple[int, int]:
        """The group of a clip, and its number there."""
        group = self._group(number)
        return group, number - (self._ends[group - 1] if group else 0)

    def _job(self, number: int) -> DecodeJob:
        group, inside = self._place(number)
        return self.clips.job(self.clips.groups[group], inside)

    def _motion_bucket(self, number: int) -> float:
        group, inside = self._place(number)
        return float(self.clips.groups[group].motion_buckets[inside])

    def _encoder(self, group: int) -> Encoder:
        if group not in self._encoders:
            size = self.clips.groups[group].height, self.clips.groups[group].width
            self._encoders[group] = Encoder(self.codec, *size, self.clips.num_frames, self.precision)
        return self._encoders[group]
