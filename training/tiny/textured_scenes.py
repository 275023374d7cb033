"""Textured scenes for the motion encoder: layers that glide, grow, shrink and turn, under a camera that pans and zooms.

The shapes of `training.data.scenes` know one kind of motion. Videos have more: the whole picture moves, things come nearer,
turn, and pass in front of one another, on grounds that have structure everywhere, in any light and any colours. Every kind
here runs backwards as often as forwards.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_LAYERS = 3


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand(1, generator=generator))


def texture(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A picture (3, height, width) in [0, 1] whose spectrum falls like that of photographs; colours correlate."""
    slope = 1.0 + 0.9 * _uniform(generator)
    fy, fx = torch.fft.fftfreq(height)[:, None] * height, torch.fft.rfftfreq(width)[None] * width
    falling = (fy**2 + fx**2).sqrt().clamp(min=1) ** -slope
    spectrum = torch.view_as_complex(torch.randn(3, height, width // 2 + 1, 2, generator=generator)) * falling
    planes = torch.fft.irfft2(spectrum, s=(height, width))
    planes = planes / planes.std((1, 2), keepdim=True)
    mixing = torch.ones(3, 3) + 0.5 * torch.randn(3, 3, generator=generator)  # mostly grey, some colour
    coloured = torch.einsum("ij,jhw->ihw", mixing / mixing.norm(dim=1, keepdim=True), planes)
    contrast = 0.05 + 0.2 * _uniform(generator)
    mean = 0.15 + 0.7 * torch.rand(1, generator=generator) + 0.12 * torch.randn(3, generator=generator)
    return (mean.reshape(3, 1, 1) + contrast * coloured).clamp(0, 1)


class LayerPath:
    """A layer's way: position, size and angle at times in [-1, 1], in units of the picture's height."""

    def __init__(self, generator: torch.Generator, reach: float, still: float) -> None:
        def draw(scale: float, share: float) -> float:
            moves = _uniform(generator) < share
            return scale * float(torch.randn(1, generator=generator)) if moves else 0.0

        moves = _uniform(generator) >= still
        speed = reach * (0.15 + _uniform(generator)) if moves else 0.0
        angle = 2 * math.pi * _uniform(generator)
        self.velocity = (speed * math.sin(angle), speed * math.cos(angle))
        self.growth = draw(0.35, 0.4) if moves else 0.0
        self.turn = draw(0.6, 0.4) if moves else 0.0
        self.sway = (draw(0.05, 0.3), math.pi * (0.5 + _uniform(generator)))

    def at(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """y, x, logarithm of the size, and angle in radians, each as `time` (F,)."""
        sway = self.sway[0] * torch.sin(self.sway[1] * time)
        return self.velocity[0] * time + sway, self.velocity[1] * time - sway, self.growth * time, self.turn * time


def _grid(path: LayerPath, time: Tensor, centre: tuple[float, float], height: int, width: int) -> Tensor:
    """Where each pixel of each frame lies on a layer: (F, H, W, 2) as x, y in units of the picture's height."""
    y = (torch.arange(height) + 0.5) / height - 0.5
    x = (torch.arange(width) + 0.5) / height - width / height / 2
    dy, dx, size, angle = (value.reshape(-1, 1, 1) for value in path.at(time))
    v, u = y[None, :, None] - centre[0] - dy, x[None, None, :] - centre[1] - dx
    scale = torch.exp(-size)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack([scale * (cos * u + sin * v), scale * (-sin * u + cos * v)], -1)


def _sample(picture: Tensor, places: Tensor, extent: float) -> Tensor:
    """`picture` (C, H, W), which is `extent` picture heights high and wide, at places (F, h, w, 2): (F, C, h, w)."""
    frames = picture.expand(len(places), *picture.shape)
    return F.grid_sample(frames, places * (2 / extent), padding_mode="reflection", align_corners=False)


def render_textured(seed: int, num_frames: int, height: int, width: int, fps: float) -> Tensor:
    """One scene, uint8 (num_frames, 3, height, width); the same seed gives the same scene."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.linspace(-0.5, 0.5, num_frames) * (num_frames - 1) / fps
    extent = 3.0
    side = round(extent * height)
    still = 0.35  # a camera on a tripod, things that do not move
    camera = LayerPath(generator, 0.35, still)
    frames = _sample(texture(side, side, generator), _grid(camera, time, (0.0, 0.0), height, width), extent)
    for _ in range(int(torch.randint(MAX_LAYERS + 1, (1,), generator=generator))):
        layer, path = texture(side, side, generator), LayerPath(generator, 0.6, 0.15)
        centre = (0.8 * _uniform(generator) - 0.4, (width / height) * (_uniform(generator) - 0.5))
        places = _grid(path, time, centre, height, width)
        radius = 0.12 + 0.25 * _uniform(generator)
        outline = 0.35 * _uniform(generator)  # 0: a disc
        lobes = int(torch.randint(2, 6, (1,), generator=generator))
        around = torch.atan2(places[..., 1], places[..., 0])
        edge = radius * (1 + outline * torch.cos(lobes * around))
        inside = ((edge - places.norm(dim=-1)) * height + 0.5).clamp(0, 1)[:, None]  # a pixel of soft edge
        frames = torch.lerp(frames, _sample(layer, places, extent), inside)
    return (frames * 255).round().to(torch.uint8)
