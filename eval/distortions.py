"""Graded distortions of clips: the motion encoder learns to notice them, and any video distance is tested with them.

All take float clips (N, 3, T, H, W) in [-1, 1] and a strength in (0, 1] per clip, and draw from the given generator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def noise(clips: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Add white noise of standard deviation up to 0.4 (51 grey levels), as an unfinished denoising leaves it."""
    sigma = 0.4 * strength.reshape(-1, 1, 1, 1, 1)
    return (clips + sigma * torch.randn(clips.shape, generator=generator)).clamp(-1, 1)


def gaussian_blur(clip: Tensor, sigma: float) -> Tensor:
    """One clip (3, T, H, W), each frame blurred with a separable Gaussian of `sigma` pixels, edges replicated."""
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=clip.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).reshape(1, 1, -1, 1)
    frames = F.pad(clip.reshape(-1, 1, *clip.shape[-2:]), [radius] * 4, mode="replicate")
    frames = F.conv2d(F.conv2d(frames, kernel), kernel.transpose(2, 3))
    return frames.reshape(clip.shape)


def blur(clips: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Blur with a Gaussian of 0.4 to 3 pixels."""
    return torch.stack([gaussian_blur(c, 0.4 + 2.6 * s) for c, s in zip(clips, strength.tolist(), strict=True)])


def soften(clips: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Scale down by a factor of up to 4 and up again: the softness of a strong codec."""
    h, w = clips.shape[-2:]
    out = []
    for clip, s in zip(clips.transpose(1, 2), strength.tolist(), strict=True):  # (T, 3, H, W)
        factor = 1.2 + 2.8 * s
        small = F.interpolate(clip, size=(round(h / factor), round(w / factor)), mode="area")
        out.append(F.interpolate(small, size=(h, w), mode="bilinear"))
    return torch.stack(out).transpose(1, 2)


def warp(clips: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Deform every frame by another smooth shift of up to about 4 pixels: objects melt and wobble."""
    n, _, t, h, w = clips.shape
    coarse = torch.randn(n * t, 2, 4, 8, generator=generator) * 2.0 * strength.repeat_interleave(t).reshape(-1, 1, 1, 1)
    shift = F.interpolate(coarse, size=(h, w), mode="bicubic")  # (N*T, 2, H, W), pixels
    identity = torch.eye(2, 3).expand(n * t, 2, 3)
    grid = F.affine_grid(identity, [n * t, 3, h, w], align_corners=False)
    grid = grid + shift.permute(0, 2, 3, 1) * torch.tensor([2 / w, 2 / h])
    frames = clips.transpose(1, 2).reshape(n * t, 3, h, w)
    frames = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
    return frames.reshape(n, t, 3, h, w).transpose(1, 2)


def flicker(clips: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Change the brightness from frame to frame, by a factor of deviation up to 0.4."""
    wobble = torch.randn(len(clips), 1, clips.shape[2], 1, 1, generator=generator)
    gain = 1 + 0.4 * strength.reshape(-1, 1, 1, 1, 1) * wobble
    return ((clips + 1) * gain - 1).clamp(-1, 1)


def take_frames(clips: Tensor, index: Tensor) -> Tensor:
    """Clips (N, 3, T, H, W) with the frames picked by index (N, T)."""
    n, c, t, h, w = clips.shape
    return clips.gather(2, index.reshape(n, 1, t, 1, 1).expand(n, c, t, h, w))


def shuffle(clips: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Move frames out of order, each by up to about `strength` times the clip's length; at least two change places."""
    n, t = len(clips), clips.shape[2]
    order = torch.arange(t).expand(n, t)
    jitter = (2 * torch.rand(n, t, generator=generator) - 1) * t * strength[:, None]
    index = (order + jitter).argsort(1)
    swap = torch.randint(t - 1, (n, 1), generator=generator)  # with its next one, where nothing else moved
    swapped = torch.where(order == swap, swap + 1, torch.where(order == swap + 1, swap, order))
    return take_frames(clips, torch.where((index == order).all(1, keepdim=True), swapped, index))


def freeze(clips: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Stop at one frame for the last share `strength` of the clip; at 1 the whole clip is its first frame."""
    t = clips.shape[2]
    last = ((t - 1) * (1 - strength)).round().long().clamp(max=t - 2)
    return take_frames(clips, torch.minimum(torch.arange(t)[None], last[:, None]))


def stutter(clips: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Replace frames by the frame before, each with probability up to 0.7."""
    n, t = len(clips), clips.shape[2]
    repeat = torch.rand(n, t, generator=generator) < 0.7 * strength[:, None]
    index = torch.where(repeat, 0, torch.arange(t)[None].expand(n, t))
    return take_frames(clips, index.cummax(1).values)


DISTORTIONS: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "noise": noise,
    "blur": blur,
    "soften": soften,
    "warp": warp,
    "flicker": flicker,
    "shuffle": shuffle,
    "freeze": freeze,
    "stutter": stutter,
}


def ghost(clips: Tensor, others: Tensor, strength: Tensor) -> Tensor:
    """Mix with another future of the same first frame, half and half at strength 1: the output of a blurry model."""
    share = 0.5 * strength.reshape(-1, 1, 1, 1, 1)
    return (1 - share) * clips + share * others
