"""Buckets of sizes: videos of other shapes are trained on in a size of their own, of about as many pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mobilevd.errors import UserError

Size = tuple[int, int]
"""Height and width in pixels."""


def size_buckets(height: int, width: int, aspect_ratios: Sequence[float], multiple: int) -> list[Size]:
    """The size of every bucket, by rising width / height: about `height` * `width` pixels, in steps of `multiple`.

    Of the four sizes around the wanted one, that with the smallest error of shape and area together is taken. Ratios that
    come to the same size share it. Without ratios there is one bucket, `height` x `width`.

    Args:
        multiple: pixels that codec and UNet want height and width to be divisible by, in the stage that works so.

    Raises UserError if a ratio would need a side of less than `multiple` pixels.
    """
    if not aspect_ratios:
        return [(height, width)]
    return sorted({_size(height * width, ratio, multiple) for ratio in aspect_ratios}, key=lambda s: s[1] / s[0])


def _size(area: int, ratio: float, multiple: int) -> Size:
    wanted = math.sqrt(area / ratio), math.sqrt(area * ratio)
    if min(wanted) < multiple / 2:
        raise UserError(
            f"data.aspect_ratios: {ratio:g} at {area} pixels is {wanted[0]:.0f}x{wanted[1]:.0f} (height x width), and "
            f"sides are multiples of {multiple}: leave that ratio out, or work at a larger size"
        )
    sides = [[max(1, int(side // multiple) + more) * multiple for more in (0, 1)] for side in wanted]
    sizes = [(high, wide) for high in sides[0] for wide in sides[1]]
    # an error of the area weighs as much as one of the shape
    return min(sizes, key=lambda s: abs(math.log(s[1] / s[0] / ratio)) + abs(math.log(s[0] * s[1] / area)))


def bucket_of(aspect: float, buckets: Sequence[Size]) -> int:
    """Number of the bucket whose shape is nearest to an upright picture's width / height, in the logarithm.

    0 for a picture of unknown shape (aspect 0).
    """
    if aspect <= 0:
        return 0
    return min(range(len(buckets)), key=lambda k: abs(math.log(buckets[k][1] / buckets[k][0] / aspect)))
