"""Colours of decoded frames as a player on an SDR screen shows them: 8-bit RGB, BT.709 primaries, gamma 2.4.

Video is converted by the matrix that it is tagged with, or by the one that its size implies. HLG and PQ (HDR) are mapped
as BT.2408 maps SDR into them, backwards: white of SDR lies at 203 cd/m2, what is brighter is clipped.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

HD_WIDTH, HD_HEIGHT = 1280, 577
"""From this size on, video without a tag is BT.709; below, BT.601 (what players do)."""
SDR_WHITE_NITS = 203.0  # BT.2408-7, table 1: reference white in PQ and in HLG
HLG_PEAK_NITS, HLG_GAMMA = 1000.0, 1.2  # BT.2100-2, table 5: the nominal display
GAMMA = 2.4  # BT.1886: an SDR screen's

BT709, UNTAGGED, SMPTE170M, ICTCP = 1, 2, 6, 14
"""Values of the tags of a frame (ITU-T H.273, tables 2 to 4); matrices from ICTCP on are none of Y'CbCr."""
HDR_TRANSFERS = {ColorTrc.SMPTE2084.value: "PQ", ColorTrc.ARIB_STD_B67.value: "HLG"}
UNKNOWN_TRANSFERS = {
    ColorTrc.LINEAR.value: "linear light",
    ColorTrc.LOG.value: "logarithmic",
    ColorTrc.LOG_SQRT.value: "logarithmic",
    ColorTrc.SMPTE428.value: "digital cinema's",
}
# Linear RGB of other primaries -> linear RGB of BT.709, both with white D65.
# BT.2087-0, M2 inverted, and SMPTE EG 432-1's primaries.
WIDE_GAMUTS = {
    ColorPrimaries.BT2020.value: np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
    ),
    ColorPrimaries.SMPTE432.value: np.array(
        [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]]
    ),
}


class UnknownColour(ValueError):
    """The error for colours that cannot be converted; the text says which."""


def default_matrix(width: int, height: int) -> Colorspace:
    """The matrix of video without a tag."""
    return Colorspace.ITU709 if width >= HD_WIDTH or height >= HD_HEIGHT else Colorspace.ITU601


def to_rgb(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
    """A decoded frame as uint8 (H, W, 3), RGB. Raises UnknownColour for colours that cannot be converted.

    `size`, (height, width) in stored pixels, averages it down before the conversion, which is much quicker.
    """
    _check(frame)
    # one thread: to start others for one picture takes longer than the picture
    scale: dict[str, Any] = {"threads": 1}
    if size is not None:
        scale |= {"height": size[0], "width": size[1], "interpolation": "AREA"}
    gamut, transfer = WIDE_GAMUTS.get(frame.color_primaries), HDR_TRANSFERS.get(frame.color_trc)
    if transfer is None and gamut is None:
        return cast(np.ndarray, frame.to_ndarray(format="rgb24", src_colorspace=_untagged_matrix(frame), **scale))
    full = ColorRange.JPEG
    matrix = _untagged_matrix(frame)
    signal = frame.to_ndarray(format="gbrp16le", dst_color_range=full, src_colorspace=matrix, **scale)
    light = _light_of(transfer)[cast(np.ndarray, signal)]  # (H, W, 3), RGB
    if gamut is not None:
        light = light @ gamut.T.astype(np.float32)
    return (np.clip(light, 0, 1) ** (1 / GAMMA) * 255 + 0.5).astype(np.uint8)


def from_rgb(pixels: np.ndarray) -> av.VideoFrame:
    """uint8 (H, W, 3) as a frame of 4:2:0, in the matrix that players assume for its size."""
    height, width = pixels.shape[:2]
    rgb = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return rgb.reformat(format="yuv420p", dst_colorspace=default_matrix(width, height), dst_color_range=ColorRange.MPEG)


def tag_colours(context: av.VideoCodecContext, width: int, height: int) -> None:
    """Write into a stream's header how `from_rgb` made its frames."""
    context.colorspace = BT709 if default_matrix(width, height) == Colorspace.ITU709 else SMPTE170M
    context.color_trc, context.color_primaries, context.color_range = BT709, BT709, ColorRange.MPEG


def _check(frame: av.VideoFrame) -> None:
    if name := UNKNOWN_TRANSFERS.get(frame.color_trc):
        raise UnknownColour(f"its transfer curve is {name}, which is not converted")
    if frame.colorspace >= ICTCP:
        raise UnknownColour("its colours are ICtCp or IPT (as in Dolby Vision profile 5), which are not converted")
    if frame.color_trc == UNTAGGED and SideData.DOVI_METADATA in cast(Any, frame.side_data):
        raise UnknownColour("it is Dolby Vision without a base layer for other players")


def _untagged_matrix(frame: av.VideoFrame) -> Colorspace | None:
    """The matrix of a frame that does not tell it; None if it does, or is RGB."""
    if frame.colorspace == UNTAGGED and "rgb" not in frame.format.name and "bgr" not in frame.format.name:
        return default_matrix(frame.width, frame.height)
    return None


@cache
def _light_of(transfer: str | None) -> np.ndarray:
    """Light of a screen for every signal of 16 bits, (65536,) float32: 1 is the white of SDR."""
    signal = np.arange(65536) / 65535
    if transfer == "PQ":
        return (_pq_nits(signal) / SDR_WHITE_NITS).astype(np.float32)
    if transfer == "HLG":
        # The gamma of the nominal display for each channel by itself, as zimg (FFmpeg's zscale) does. BT.2100 has it for
        # the luminance, with which colours come out more saturated; greys are the same.
        return (_hlg_scene(signal) ** HLG_GAMMA * (HLG_PEAK_NITS / SDR_WHITE_NITS)).astype(np.float32)
    return (signal**GAMMA).astype(np.float32)


def _pq_nits(signal: np.ndarray) -> np.ndarray:
    """The reference EOTF of PQ, in cd/m2 (BT.2100-2, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = signal ** (1 / m2)
    return 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg_scene(signal: np.ndarray) -> np.ndarray:
    """The inverse OETF of HLG: light of the scene in [0, 1] (BT.2100-2, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
