"""The one way in which frames change their size, without torch: decoders of clips and evaluation use the same."""

from __future__ import annotations

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a rectangle, in pixels; they need not be whole."""


def resampled(frame: np.ndarray, height: int, width: int, box: Box | None = None) -> np.ndarray:
    """A frame, uint8 (H, W, 3), or the rectangle `box` of it, at another size: bicubic.

    Pillow widens its kernel with the reduction, so nothing aliases; at the same size it copies.
    """
    image = Image.fromarray(frame)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def centre_box(height: int, width: int, aspect: float) -> Box:
    """The largest rectangle of that width / height in the centre of a picture of `height` x `width` pixels."""
    crop_width, crop_height = min(width, height * aspect), min(height, width / aspect)
    left, top = (width - crop_width) / 2, (height - crop_height) / 2
    return left, top, left + crop_width, top + crop_height
