"""Procedural moving scenes: a small world whose motion cannot be read off its first frame.

One to three bright shapes (discs and squares) glide over a dim gradient and bounce off the border. Direction and speed
are independent of everything that is visible at first, as in real video: a model that answers with the average future
shows a blur, and only one that commits to a motion looks right. That is what one-step training has to learn.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

SUPERSAMPLE = 2  # shapes are drawn at twice the size and averaged: edges move smoothly at slow speeds


@dataclass(frozen=True)
class Shape:
    """One moving shape; lengths are in units of the picture's height, times in seconds."""

    kind: str  # "disc" or "square"
    radius: float
    color: np.ndarray  # (3,) in [0, 1]
    position: np.ndarray  # (2,) y, x of the centre at time 0
    velocity: np.ndarray  # (2,) per second


def _color(rng: np.random.Generator, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(rng.random(), saturation, value))


def _shape(rng: np.random.Generator, aspect: float) -> Shape:
    radius = rng.uniform(0.14, 0.22)
    angle = rng.uniform(0, 2 * np.pi)
    speed = rng.uniform(0.45, 0.9)
    return Shape(
        kind=str(rng.choice(["disc", "square"])),
        radius=radius,
        color=_color(rng, rng.uniform(0.6, 1.0), rng.uniform(0.8, 1.0)),
        position=np.array([rng.uniform(radius, 1 - radius), rng.uniform(radius, aspect - radius)]),
        velocity=speed * np.array([np.sin(angle), np.cos(angle)]),
    )


def _bounce(position: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Fold a straight path into [low, high] by reflection at both ends (a triangle wave)."""
    span = high - low
    phase = np.mod(position - low, 2 * span)
    return low + span - np.abs(phase - span)


def render_scene(seed: int, num_frames: int, height: int, width: int, fps: float) -> np.ndarray:
    """Draw one scene; the same seed gives the same scene at any size and frame rate.

    Returns uint8 (T, H, W, 3), RGB.
    """
    rng = np.random.default_rng(seed)
    aspect = width / height
    left, right = _color(rng, rng.uniform(0.2, 0.6), 0.35), _color(rng, rng.uniform(0.2, 0.6), 0.15)
    tilt = rng.uniform(0, 2 * np.pi)
    shapes = [_shape(rng, aspect) for _ in range(rng.integers(1, 4))]

    rows, columns = height * SUPERSAMPLE, width * SUPERSAMPLE
    y = ((np.arange(rows) + 0.5) / rows)[:, None]
    x = ((np.arange(columns) + 0.5) / columns * aspect)[None, :]
    ramp = (np.cos(tilt) * (x / aspect - 0.5) + np.sin(tilt) * (y - 0.5) + 0.7) / 1.4
    background = left + np.clip(ramp, 0, 1)[..., None] * (right - left)  # (H, W, 3)

    frames = np.empty((num_frames, height, width, 3), np.uint8)
    for t in range(num_frames):
        picture = background.copy()
        for shape in shapes:
            low = np.full(2, shape.radius)
            high = np.array([1.0, aspect]) - shape.radius
            cy, cx = _bounce(shape.position + shape.velocity * (t / fps), low, high)
            if shape.kind == "disc":
                inside = (y - cy) ** 2 + (x - cx) ** 2 <= shape.radius**2
            else:
                half = shape.radius * 0.85  # about the disc's area
                inside = (np.abs(y - cy) <= half) & (np.abs(x - cx) <= half)
            picture[inside] = shape.color
        small = picture.reshape(height, SUPERSAMPLE, width, SUPERSAMPLE, 3).mean((1, 3))
        frames[t] = np.round(small * 255).astype(np.uint8)
    return frames
