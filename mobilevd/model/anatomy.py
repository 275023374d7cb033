"""The UNet's anatomy: the block that a module, or an operator at a path in the UNet, belongs to.

No other file parses block names. The names are those of diffusers and of an SVD checkpoint: the stages `down_blocks.0`,
`mid_block`, `up_blocks.1`, and in them `resnets.N`, `attentions.N`, `downsamplers.0` and `upsamplers.0`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from mobilevd.model.layers.blocks import Resample
from mobilevd.model.layers.resnet import SpatioTemporalResBlock
from mobilevd.model.layers.transformer import SpatioTemporalTransformer

SPATIAL_RESIDUAL, TEMPORAL_RESIDUAL = "spatial residual", "temporal residual"
SPATIAL_TRANSFORMER, TEMPORAL_TRANSFORMER = "spatial transformer", "temporal transformer"
TRANSFORMER_OUTPUT = "transformer output"
DOWNSAMPLER, UPSAMPLER = "downsampler", "upsampler"
CONV_IN, CONV_OUT = "conv_in", "conv_out"
RESIDUAL_BLOCK, TRANSFORMER = "residual block", "transformer"
"""Kinds of the nodes of a residual block or transformer outside its spatial and temporal part (reshapes, blends)."""
WHOLES = (RESIDUAL_BLOCK, TRANSFORMER)

_STAGE = r"(?:down|up)_blocks\.\d+|mid_block"
_MODULE = r"(resnets|attentions|downsamplers|upsamplers)\.\d+"
_INSIDE = re.compile(rf"((?:{_STAGE})\.{_MODULE})(?:\.(\w+)(?:\.(\d+))?)?(?:\.|$)")
_END = re.compile(r"(conv_in|conv_norm_out|conv_out)(?:\.|$)")
_KIND_OF_MODULE = {
    "resnets": RESIDUAL_BLOCK,
    "attentions": TRANSFORMER,
    "downsamplers": DOWNSAMPLER,
    "upsamplers": UPSAMPLER,
}
_KIND_OF_PART = {
    "spatial_res_block": SPATIAL_RESIDUAL,
    "temporal_res_block": TEMPORAL_RESIDUAL,
    "norm": SPATIAL_TRANSFORMER,
    "proj_in": SPATIAL_TRANSFORMER,
    "transformer_blocks": SPATIAL_TRANSFORMER,
    "temporal_transformer_blocks": TEMPORAL_TRANSFORMER,
    "proj_out": TRANSFORMER_OUTPUT,
}


@dataclass(frozen=True)
class Block:
    """A block of the UNet.

    Attributes:
        name: path in the UNet of the module that it is part of ("down_blocks.0.attentions.1"); `conv_in`, `conv_out`.
        kind: "temporal residual", ...
        level: resolution level, 0 is the highest; None if a path alone does not tell (see `block_at`).
        layer: index of the layer, in a transformer that has several.
    """

    name: str
    kind: str
    level: int | None = None
    layer: int = 0

    @property
    def temporal(self) -> bool:
        """True for a temporal part, which pruning can delete."""
        return self.kind in (TEMPORAL_RESIDUAL, TEMPORAL_TRANSFORMER)

    @property
    def in_middle(self) -> bool:
        """True in the middle stage, between the down and the up stages."""
        return self.name.startswith("mid_block")


def in_unet(path: str) -> str:
    """Turn a path in a program, whose UNet is called `unet`, into a path in the UNet; "" is the UNet itself."""
    return "" if path == "unet" else path.removeprefix("unet.")


def block_at(path: str, levels: int | None = None) -> Block | None:
    """The block that the module or operator at a path in the UNet (or a program) belongs to; None if it is in none.

    Args:
        levels: number of levels of the UNet; without it, only blocks of the down stages have a known level.
    """
    path = in_unet(path)
    if end := _END.match(path):
        kind = CONV_IN if end[1] == "conv_in" else CONV_OUT
        return Block(kind, kind, level=0)
    inside = _INSIDE.match(path)
    if inside is None:
        return None
    name, module, part, layer = inside.groups()
    kind = _KIND_OF_PART.get(part, _KIND_OF_MODULE[module])
    return Block(name, kind, _level(name, levels), int(layer) if layer and part.endswith("transformer_blocks") else 0)


def _level(name: str, levels: int | None) -> int | None:
    stage, number = name.split(".")[:2]
    if stage == "down_blocks":
        return int(number)
    if levels is None:
        return None
    return levels - 1 if stage == "mid_block" else levels - 1 - int(number)


def stage_at(path: str) -> str | None:
    """The stage that a path is in ("down_blocks.0", "mid_block"); a decoder's stages can have the same names."""
    match = re.match(rf"(?:\w+\.)??({_STAGE})", path)
    return match[1] if match else None


def is_attention(path: str) -> bool:
    """True if a path is inside an attention (its projections included), self or cross, spatial or temporal."""
    return re.search(r"transformer_blocks\.\d+\.attn", path) is not None


def is_temporal(path: str) -> bool:
    """True for a layer of a block's temporal part, of its blend with the spatial one, or of the frames' positions."""
    block = block_at(path)
    return block is not None and (block.temporal or block.kind in WHOLES)


def in_residual_or_transformer(path: str) -> bool:
    """True for a layer of a residual block or of a transformer, spatial or temporal."""
    block = block_at(path)
    return block is not None and block.kind not in (CONV_IN, CONV_OUT, DOWNSAMPLER, UPSAMPLER)


def blocks_of(unet: nn.Module, levels: int) -> list[Block]:
    """Every block that a UNet has, in the order of the forward pass."""
    found = (block_at(path, levels) for path, _ in unet.named_modules())
    return sorted({block for block in found if block is not None and block.kind not in WHOLES}, key=_position)


def _position(block: Block) -> tuple[int, ...]:
    """Sort key in order of execution: a transformer follows its number's residual block, a resampler ends a stage."""
    if block.kind in (CONV_IN, CONV_OUT):
        return (0,) if block.kind == CONV_IN else (4,)
    parts = block.name.split(".")
    way = ("down_blocks", "mid_block", "up_blocks").index(parts[0])
    number = 0 if block.in_middle else int(parts[1])
    resampler = block.kind in (DOWNSAMPLER, UPSAMPLER)
    last = block.kind == TRANSFORMER_OUTPUT
    return 1 + way, number, resampler, int(parts[-1]), parts[-2] == "attentions", last, block.layer, block.temporal


def block_modules(module: nn.Module, resamplers: bool = False) -> dict[str, nn.Module]:
    """The residual blocks and transformers (and resamplers, if wanted) inside a module, by their path in it."""
    kinds = (SpatioTemporalResBlock, SpatioTemporalTransformer, *((Resample,) if resamplers else ()))
    return {path: part for path, part in module.named_modules() if isinstance(part, kinds)}
