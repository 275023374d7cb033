"""Clips through a codec in pieces: as many frames together as the memory for them holds."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from mobilevd.codecs.base import Codec
from mobilevd.pixels import to_float

ACTIVATIONS_BYTES = 1 << 30
"""For the activations of a piece. With decoded clips that wait, all stays below 2 GB beyond the models."""
LARGEST = float(np.finfo(np.float16).max)


def device_of(codec: Codec) -> torch.device:
    """Where a codec computes."""
    return next((tensor.device for tensor in (*codec.parameters(), *codec.buffers())), torch.device("cpu"))


def default_precision(device: torch.device) -> str:
    """bf16 where it is fast; the VAE overflows in float16."""
    return "bf16" if device.type == "cuda" else "fp32"


class Encoder:
    """Encodes the clips of one size.

    The number of frames in a piece is a function of codec, size and precision alone, so that latents do not depend on the
    machine's load or on the number of processes.
    """

    def __init__(self, codec: Codec, height: int, width: int, num_frames: int, precision: str) -> None:
        self.codec, self.precision = codec, precision
        self.device = device_of(codec)
        self.frames = max(1, ACTIVATIONS_BYTES // frame_bytes(codec, height, width, precision))
        self.clips = max(1, self.frames // num_frames)
        """Clips that are encoded together."""

    @torch.no_grad()
    def encode(self, pixels: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Clips, uint8 (T, H, W, 3) each, to latents (N, T, C, h, w) and embeddings (N, D), float16 on the CPU."""
        frames = torch.from_numpy(np.stack(pixels)).permute(0, 1, 4, 2, 3)  # (N, T, 3, H, W) uint8
        with autocast(torch.device("cpu"), "fp32"):  # a training around it does not reach in
            latents = [self._run(self.codec.encode, part) for part in frames.flatten(0, 1).split(self.frames)]
            embeddings = [self._run(self.codec.embed_image, part) for part in frames[:, 0].split(self.frames)]
            return torch.cat(latents).unflatten(0, frames.shape[:2]), torch.cat(embeddings)[:, 0]

    def _run(self, function: Any, part: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            result = function(to_float(part.to(self.device))).float()
        # what float16 does not hold becomes infinite, and is found by `is_storable`
        return result.half().cpu()


def is_storable(latents: Tensor, embedding: Tensor) -> bool:
    """False if a value is not finite in float16."""
    return bool(torch.isfinite(latents).all() and torch.isfinite(embedding).all())


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    # without the cache of casted weights, which would hold a second copy of them all
    lower = precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lower, cache_enabled=False)


def frame_bytes(codec: Codec, height: int, width: int, precision: str) -> int:
    """Memory of the activations while one frame is encoded, at the peak: counted on tensors without data."""
    device = device_of(codec)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.no_grad(), fake, LivingBytes() as living:
        codec.encode(torch.empty(1, 3, height, width, device=device))
    # float32 is counted: half of it are the copies and the sums of a mixed precision
    return max(1, living.peak if precision == "fp32" else living.peak * 3 // 4)


class LivingBytes(TorchDispatchMode):
    """Counts the memory of the tensors that operators make, as long as they live; `peak` is the most at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._users: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, out)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        identity, size = storage._cdata, storage.nbytes()
        if identity not in self._users:
            self._users[identity] = 0
            self.now += size
            self.peak = max(self.peak, self.now)
        self._users[identity] += 1
        weakref.finalize(tensor, self._release, identity, size)

    def _release(self, identity: int, size: int) -> None:
        self._users[identity] -= 1
        if not self._users[identity]:
            del self._users[identity]
            self.now -= size
