"""Every way from bytes to a network's input against the published arithmetic, written in numpy pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eval.preprocessing import Preprocessing
from eval.protocol_settings import load_protocol


def clips(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (2, 3, height, width, 3), dtype=np.uint8)


def bilinear(x: np.ndarray, height: int, width: int, centres: bool) -> np.ndarray:
    """Bilinear resizing of (..., H, W, C) in float64, two neighbours along each axis, the edge repeated.

    `centres`: pixel i of the target lies at (i + 0.5) * in / out - 0.5, but never before the first (PyTorch,
    align_corners=False); else at i * in / out (TensorFlow 1).
    """
    for axis, out in ((-3, height), (-2, width)):
        length = x.shape[axis]
        place = np.arange(out, dtype=np.float64)
        place = np.maximum((place + 0.5) * length / out - 0.5, 0) if centres else place * length / out
        below = np.minimum(np.floor(place).astype(int), length - 1)
        above = np.minimum(below + 1, length - 1)
        weight = (place - below).reshape((-1,) + (1,) * (-axis - 1))
        x = x.take(below, axis) * (1 - weight) + x.take(above, axis) * weight
    return x


def cropped(x: np.ndarray, size: int) -> np.ndarray:
    """VideoGPT's `preprocess`: the short side to `size`, the long one rounded up, then the middle."""
    height, width = x.shape[-3:-1]
    scale = size / min(height, width)
    if height < width:
        x = bilinear(x, size, math.ceil(width * scale), True)
    else:
        x = bilinear(x, math.ceil(height * scale), size, True)
    top, left = (x.shape[-3] - size) // 2, (x.shape[-2] - size) // 2
    return x[..., top : top + size, left : left + size, :]


IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
REFERENCES = {
    "stylegan-v": lambda x: x,
    "videogpt": lambda x: (cropped(x / 255, 224) - 0.5) * 2,
    "common-metrics": lambda x: (cropped(np.floor(x / 255 * 255 + 1e-9) / 255, 224) - 0.5) * 2,
    "common-metrics-styleganv": lambda x: (cropped(x / 255, 224) - 0.5) * 2,
    "cd-fvd-i3d": lambda x: 2 * bilinear(x, 224, 224, True) / 255 - 1,
    "cd-fvd-videomae": lambda x: bilinear(x / 255, 224, 224, True),
    "google": lambda x: 2 * bilinear(x, 224, 224, False) / 255 - 1,
    "jedi": lambda x: (x / 255 - IMAGENET[0]) / IMAGENET[1],
    "mobilevd-7fps": lambda x: x,
}


@pytest.mark.parametrize("size", [(64, 64), (240, 320), (320, 180), (225, 301), (256, 256), (576, 1024)])
@pytest.mark.parametrize("name", REFERENCES)
def test_equals_the_reference(name: str, size: tuple[int, int]) -> None:
    x = clips(*size)
    found = Preprocessing.of(load_protocol(name))(x)
    due = REFERENCES[name](x.astype(np.float64)).transpose(0, 4, 1, 2, 3)  # (N, 3, T, H, W)
    assert found.shape == due.shape and found.is_contiguous()
    # float32 rounds source places near 1000 to about 6e-5 of a pixel
    np.testing.assert_allclose(found.numpy(), due, atol=2e-3 if name in ("stylegan-v", "mobilevd-7fps") else 3e-4)


def test_the_three_resizings_differ_by_far_more_than_rounding() -> None:
    x = clips(240, 320)
    ways = [Preprocessing(kind, 224, "signed")(x).numpy() for kind in ("short-side", "stretch", "tf1-stretch")]
    for i in range(3):
        assert np.abs(ways[i] - ways[i - 1]).mean() > 0.05


def test_bytes_survive_the_truncation_that_common_metrics_makes() -> None:
    """It takes [0, 1] and truncates x * 255 to bytes in float32; no level may fall to the one below."""
    levels = np.arange(256, dtype=np.uint8)
    back = (levels.astype(np.float32) / np.float32(255) * np.float32(255)).astype(np.uint8)
    assert np.array_equal(back, levels)


def test_tf1_by_hand() -> None:
    """Doubling (0, 255): places 0, 0.5, 1, 1.5; TensorFlow 1 repeats the last pixel, never the first."""
    x = np.zeros((1, 1, 1, 2, 3), np.uint8)
    x[..., 1, :] = 255
    row = Preprocessing("tf1-stretch", 4, "bytes")(x)[0, 0, 0, 0]
    assert row.tolist() == [0, 127.5, 255, 255]
    centres = Preprocessing("stretch", 4, "bytes")(x)[0, 0, 0, 0]
    assert centres.tolist() == [0, 63.75, 191.25, 255]
