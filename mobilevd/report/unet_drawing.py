"""The UNet as a drawing: its blocks in the order of the forward pass, what pruning took, and where funnels made it narrow.

A row per resolution level, so that the down stages fall to the middle and the up stages rise from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from device_runner.results.svg import line, rectangle, svg, text
from mobilevd.model.anatomy import DOWNSAMPLER, UPSAMPLER, Block, stage_at
from mobilevd.model.unet import SpatioTemporalUNet

COLUMN, BOX, ROW, LABELS, TOP = 22.0, 18.0, 58.0, 128.0, 30.0
"""Pixels: of a block's column, its box, a level's row, the labels on the left, and above the first row."""
SPATIAL_HEIGHT, TEMPORAL_HEIGHT = 26.0, 10.0


@dataclass(frozen=True)
class UnetPlace:
    """A residual block, transformer or resampler of the UNet, where the drawing has a box.

    Attributes:
        name: its path in the UNet.
        kind: "residual block", "transformer" or "resampler".
        level: resolution level; 0 is the highest.
        temporal: "kept", "removed" (there in the base alone), or "none".
        width: inner width of its layers over that without funnels.
    """

    name: str
    kind: str
    level: int
    temporal: str
    width: float


def places_of(config: Mapping[str, Any], base: Mapping[str, Any]) -> list[UnetPlace]:
    """The places of a model, in order, compared with the base that it was made from."""
    before, after = _blocks(base), _blocks(config)
    had = {block.name for block in before if block.temporal}
    has = {block.name for block in after if block.temporal}
    places: dict[str, UnetPlace] = {}
    for block in before + after:
        if block.name in places or block.level is None or "." not in block.name:
            continue  # the first and the last convolution are of no stage
        temporal = "kept" if block.name in has else "removed" if block.name in had else "none"
        width = _inner_width(config, block.name, block.level)
        places[block.name] = UnetPlace(block.name, _kind(block), block.level, temporal, width)
    return list(places.values())


def _blocks(config: Mapping[str, Any]) -> list[Block]:
    return list(_blocks_of(json.dumps({key: value for key, value in config.items() if not key.startswith("_")})))


@cache
def _blocks_of(config: str) -> tuple[Block, ...]:
    """The blocks of a config in JSON; of SVD's size they take seconds, and the base is asked for with every drawing."""
    with torch.device("meta"):
        return tuple(SpatioTemporalUNet(**json.loads(config)).blocks())


def _kind(block: Block) -> str:
    if block.kind in (DOWNSAMPLER, UPSAMPLER):
        return "resampler"
    return "residual block" if "residual" in block.kind else "transformer"


def _inner_width(config: Mapping[str, Any], name: str, level: int) -> float:
    """The mean inner width of a block's narrowed layers over the full one; 1 without funnels."""
    channels, heads = config["block_out_channels"][level], config["num_attention_heads"]
    of_head = channels // (heads[level] if isinstance(heads, (list, tuple)) else heads)
    inner = [
        width / (of_head if ".attn" in layer else channels)
        for layer, width in (config.get("inner_widths") or {}).items()
        if layer.startswith(f"{name}.")
    ]
    return min(1.0, sum(inner) / len(inner)) if inner else 1.0


def draw_unet(config: Mapping[str, Any], base: Mapping[str, Any], title: str) -> tuple[str, int]:
    """The drawing as an SVG element, whose label tells in words what it shows, and its width in pixels."""
    places = places_of(config, base)
    levels = len(config["block_out_channels"])
    parts = [_level_label(config, level) for level in range(levels)]
    x, stage = LABELS, None
    for place in places:
        own = stage_at(place.name)
        x += COLUMN * 0.5 if stage not in (None, own) else 0.0  # a gap between stages
        parts.append(_box(place, x))
        x, stage = x + COLUMN, own
    bottom = TOP + ROW * levels
    parts.append(text(LABELS, 14, "down", "start") + text(x, 14, "up", "end"))
    kept = sum(place.temporal == "kept" for place in places)
    had = sum(place.temporal != "none" for place in places)
    narrow = sum(place.width < 1 for place in places)
    told = f"UNet of {title}: {kept} of {had} temporal blocks are left, {narrow} blocks are narrowed by funnels"
    return svg(x + 4, bottom, told, "".join(parts)), round(x + 4)


def _level_label(config: Mapping[str, Any], level: int) -> str:
    y = TOP + ROW * level + SPATIAL_HEIGHT / 2
    frames = config.get("num_frames") or 0
    if level > 0:
        frames = -(-frames // (config.get("temporal_scale") or 1))
    return text(0, y, f"{config['block_out_channels'][level]} channels", "start", "strong") + text(
        0, y + 16, f"{frames} frames", "start"
    )


def _box(place: UnetPlace, x: float) -> str:
    top = TOP + ROW * place.level
    bottom = top + SPATIAL_HEIGHT
    if place.kind == "resampler":
        middle = (top + bottom) / 2
        return line(x + 3, middle, x + BOX - 3, middle, "resampler")
    style = "residual" if place.kind == "residual block" else "transformer"
    narrowed = f", {place.width:.0%} of its inner width" if place.width < 1 else ""
    told = f"{place.name}: {place.kind}{narrowed}"
    spare = BOX * (1 - place.width) / 2
    parts = [
        rectangle(x, top, x + BOX, bottom, f"{style} whole"),
        rectangle(x + spare, top, x + BOX - spare, bottom, style, told),
    ]
    if place.temporal != "none":
        parts.append(
            rectangle(
                x,
                bottom + 3,
                x + BOX,
                bottom + 3 + TEMPORAL_HEIGHT,
                f"temporal {place.temporal}",
                f"{place.name}: temporal part {place.temporal}",
            )
        )
    return "".join(parts)


def signature(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a config the drawing shows: models that are equal in it are drawn once."""
    keys = ("block_out_channels", "temporal_blocks", "temporal_scale", "inner_widths", "num_frames")
    return tuple(repr(config.get(key)) for key in keys)
