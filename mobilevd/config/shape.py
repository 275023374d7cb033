"""The shape of clips: a run has one, at which its clips are compared too."""

from __future__ import annotations


def check_same_shape(height: int, width: int, data_height: int, data_width: int) -> None:
    """Raise ValueError unless the evaluation's size has the data's shape, to the nearest whole pixel.

    Clips are one crop of the videos, of the data's shape; compared at another, all of them would be squeezed.
    """
    fitting_width, fitting_height = round(height * data_width / data_height), round(width * data_height / data_width)
    if width == fitting_width or height == fitting_height:
        return
    raise ValueError(
        f"evaluation.height and width: {height}x{width} (height x width) is another shape than data.height and width, "
        f"{data_height}x{data_width}, which is the crop of every clip; nearest that fit: {height}x{fitting_width} or "
        f"{fitting_height}x{width}"
    )
