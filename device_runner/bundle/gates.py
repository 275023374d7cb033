"""The least closeness of a program's outputs to the model's, by precision."""

from __future__ import annotations

GATES_DB = {
    "fp32": 100.0,
    "fp16": 50.0,
    "int8": 35.0,
    "8da8w": 35.0,
    "palettized6": 35.0,
    "8da4w": 25.0,
    "palettized4": 25.0,
}
"""Least PSNR of a program against eager fp32, by precision.

Rounding alone leaves 105 to 135 dB in fp32. Four bits are 16 levels, 24 dB below eight: below their threshold the
picture is another one; above it no quality is promised.
"""
MARGIN_DB = 3.0
"""By which a device's outputs may be farther from the reference than the exporting machine's, if low parity was allowed."""
