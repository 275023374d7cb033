"""The cost of a codec: encoding the first frames of a batch, and whole clips, counted in its own code."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mobilevd.codecs.base import Codec
from training.plan.fake import fake_tensors, make_fake, weight_bytes
from training.plan.live import LiveBytes
from training.plan.stages import ClipSize


@dataclass(frozen=True)
class CodecCost:
    """The codec's cost.

    Attributes:
        weights: bytes of its weights.
        passing: bytes at the peak of what training encodes: first frames, and clips where latents are computed.
        condition_flops: operations of encoding the first frames.
        encode_flops: operations of encoding one clip and embedding its first frame.
        decode_flops: operations of embedding a first frame and decoding one clip.
    """

    weights: int
    passing: int
    condition_flops: int
    encode_flops: int
    decode_flops: int


_counted: dict[Any, CodecCost] = {}


def count_codec(codec: Codec, clip: ClipSize, images: int, half: bool, gpu: bool, clips: bool) -> CodecCost:
    """Count what a codec on the meta device costs; what was counted before is remembered.

    Args:
        clip: size of the clips.
        images: first frames that are encoded together.
        half: passes in bfloat16; the weights stay in float32.
        clips: count whole clips too, not first frames alone.
    """
    key = (id(codec), clip, images, half, gpu, clips)
    if key in _counted:
        return _counted[key]
    made, latent = copy.deepcopy(codec), codec.latent_size(clip.height, clip.width)
    encode, decode = 0, 0
    with fake_tensors(gpu), torch.no_grad():
        make_fake(made, gpu)

        def run(call: Callable[[Tensor], Tensor], *shape: int) -> LiveBytes:
            with torch.autocast("cpu", torch.bfloat16, enabled=half), LiveBytes() as counted:
                call(torch.empty(shape))
            return counted

        size = clip.height, clip.width
        condition = run(made.encode_condition, images, 3, *size)
        passing = condition.peak
        if clips:
            frames = run(made.encode, clip.frames, 3, *size)
            embedding = run(made.embed_image, 1, 3, *size).flops
            passing = max(passing, frames.peak)
            encode = frames.flops + embedding
            decode = run(made.decode, 1, clip.frames, codec.latent_channels, *latent).flops + embedding
    _counted[key] = CodecCost(weight_bytes(made), passing, condition.flops, encode, decode)
    return _counted[key]
