"""Which block of the UNet every node of the one-step graph belongs to.

The cut is the same whether a temporal block is there or was pruned: what pruning takes away is exactly the temporal
block's nodes, so a table of blocks holds for models with fewer of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

SPATIAL_RESIDUAL, TEMPORAL_RESIDUAL = "spatial residual", "temporal residual"
SPATIAL_TRANSFORMER, TEMPORAL_TRANSFORMER = "spatial transformer", "temporal transformer"
TRANSFORMER_OUTPUT = "transformer output"
REST = "rest"
TEMPORAL = (TEMPORAL_RESIDUAL, TEMPORAL_TRANSFORMER)

_HOST = r"((?:\w+_blocks\.\d+|mid_block)\.(?:resnets|attentions)\.\d+)"
_LAYER = r"\.(\d+)(?:\.|$)"
RULES = (
    (rf"{_HOST}\.spatial_res_block", SPATIAL_RESIDUAL),
    (rf"{_HOST}\.temporal_res_block", TEMPORAL_RESIDUAL),
    (rf"{_HOST}\.transformer_blocks{_LAYER}", SPATIAL_TRANSFORMER),
    (rf"{_HOST}\.temporal_transformer_blocks{_LAYER}", TEMPORAL_TRANSFORMER),
    (rf"{_HOST}\.(?:norm|proj_in)(?:\.|$)", SPATIAL_TRANSFORMER),
    (rf"{_HOST}\.proj_out(?:\.|$)", TRANSFORMER_OUTPUT),
    (r"(\w+_blocks\.\d+\.downsamplers\.\d+)", "downsampler"),
    (r"(\w+_blocks\.\d+\.upsamplers\.\d+)", "upsampler"),
    (r"(conv_in)(?:\.|$)", "conv_in"),
    (r"(conv_(?:norm_)?out)(?:\.|$)", "conv_out"),
)
"""Module paths (without "unet.") -> kind of block; the first group is the module that the block is named after."""


class Unit(NamedTuple):
    """A block.

    Attributes:
        kind: "temporal residual", ...
        name: of the module that it is part of, as `SpatioTemporalUNet.temporal_block_names` has it.
        layer: of a transformer that has several.
    """

    kind: str
    name: str
    layer: int = 0

    @property
    def is_temporal(self) -> bool:
        return self.kind in TEMPORAL


def units_of(paths: Sequence[str]) -> list[Unit]:
    """The block of every node, given the nodes' module paths in the order of execution.

    Nodes between blocks (reshapes, sums, a concatenation with a skip) belong to the block that follows, but where they are
    part of a residual block or transformer with a temporal part: what turns frames into clips and back is temporal.
    """
    plain = [path.removeprefix("unet.") if path != "unet" else "" for path in paths]
    own = [_unit(path) for path in plain]
    before: list[Unit | None] = []
    last = None
    for unit in own:
        before.append(last)
        last = unit or last
    after: list[Unit | None] = []
    following = None
    for unit in reversed(own):
        after.append(following)
        following = unit or following
    after.reverse()
    return [
        unit or _between(path, previous, next_)
        for unit, path, previous, next_ in zip(own, plain, before, after, strict=True)
    ]


def _unit(path: str) -> Unit | None:
    for pattern, kind in RULES:
        if match := re.match(pattern, path):
            layer = int(match[2]) if match.re.groups > 1 else 0
            return Unit(kind, "conv_out" if kind == "conv_out" else match[1], layer)
    return None


def _between(path: str, previous: Unit | None, following: Unit | None) -> Unit:
    """The block of a node that is in none by its own path."""
    host = re.match(_HOST, path)
    if host:
        inside = [unit if unit is not None and unit.name == host[1] else None for unit in (previous, following)]
        for unit in inside:
            if unit is not None and unit.is_temporal and not _is_output(inside[0]):
                return unit
        previous, following = inside
        if _is_output(previous):
            following = None
    return following or previous or Unit(REST, path)


def _is_output(unit: Unit | None) -> bool:
    return unit is not None and unit.kind == TRANSFORMER_OUTPUT
