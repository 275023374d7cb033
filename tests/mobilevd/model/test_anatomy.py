"""Block names are parsed in one place: what a path belongs to, and which blocks a UNet has."""

from __future__ import annotations

import pytest

from mobilevd.model.anatomy import (
    CONV_IN,
    CONV_OUT,
    DOWNSAMPLER,
    RESIDUAL_BLOCK,
    SPATIAL_RESIDUAL,
    SPATIAL_TRANSFORMER,
    TEMPORAL_RESIDUAL,
    TEMPORAL_TRANSFORMER,
    TRANSFORMER,
    TRANSFORMER_OUTPUT,
    UPSAMPLER,
    Block,
    block_at,
    block_modules,
    is_attention,
    stage_at,
)
from tests.mobilevd.unets import inputs, run, small_unet


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("unet.conv_in", Block(CONV_IN, CONV_IN, 0)),
        ("conv_norm_out", Block(CONV_OUT, CONV_OUT, 0)),
        ("unet.down_blocks.1.resnets.0", Block("down_blocks.1.resnets.0", RESIDUAL_BLOCK, 1)),
        ("down_blocks.2.resnets.1.spatial_res_block.conv1", Block("down_blocks.2.resnets.1", SPATIAL_RESIDUAL, 2)),
        ("unet.up_blocks.1.resnets.2.temporal_res_block", Block("up_blocks.1.resnets.2", TEMPORAL_RESIDUAL, 2)),
        ("mid_block.attentions.0.time_pos_embed.linear_1", Block("mid_block.attentions.0", TRANSFORMER, 3)),
        ("mid_block.attentions.0.norm", Block("mid_block.attentions.0", SPATIAL_TRANSFORMER, 3)),
        (
            "up_blocks.3.attentions.1.transformer_blocks.1.attn1.to_q",
            Block("up_blocks.3.attentions.1", SPATIAL_TRANSFORMER, 0, 1),
        ),
        (
            "up_blocks.3.attentions.1.temporal_transformer_blocks.10.ff.net.2",
            Block("up_blocks.3.attentions.1", TEMPORAL_TRANSFORMER, 0, 10),
        ),
        ("up_blocks.2.attentions.0.proj_out", Block("up_blocks.2.attentions.0", TRANSFORMER_OUTPUT, 1)),
        ("down_blocks.0.downsamplers.0.conv", Block("down_blocks.0.downsamplers.0", DOWNSAMPLER, 0)),
        ("up_blocks.0.upsamplers.0", Block("up_blocks.0.upsamplers.0", UPSAMPLER, 3)),
        ("", None),
        ("unet", None),
        ("unet.up_blocks.1", None),
        ("time_embedding.linear_1", None),
        ("conv_in_norm", None),
        ("up_blocks.3.2.conv1", None),  # a decoder's stage
    ],
)
def test_a_path_belongs_to_a_block(path: str, expected: Block | None) -> None:
    assert block_at(path, levels=4) == expected


def test_without_the_number_of_levels_only_the_way_down_has_one() -> None:
    names = ("down_blocks.1.resnets.0", "mid_block.resnets.0", "up_blocks.1.resnets.0")
    assert [getattr(block_at(name), "level", "no block") for name in names] == [1, None, None]


def test_stages_and_attentions() -> None:
    paths = ("unet.down_blocks.0.resnets.0", "decoder.up_blocks.2.0", "mid_block", "unet.conv_in", "")
    assert [stage_at(path) for path in paths] == ["down_blocks.0", "up_blocks.2", "mid_block", None, None]
    block = "unet.mid_block.attentions.0.temporal_transformer_blocks.0"
    assert [is_attention(f"{block}.{part}") for part in ("attn1.to_q", "attn2", "ff.net.0", "norm1")] == [1, 1, 0, 0]


def test_blocks_come_in_the_order_of_the_forward_pass() -> None:
    """The order in which the modules are really called, temporal parts left out where they were pruned."""
    unet = small_unet(transformer_layers_per_block=2)
    calls: list[str] = []
    parts = {
        SPATIAL_RESIDUAL: "{}.spatial_res_block",
        TEMPORAL_RESIDUAL: "{}.temporal_res_block",
        SPATIAL_TRANSFORMER: "{}.transformer_blocks.{}",
        TEMPORAL_TRANSFORMER: "{}.temporal_transformer_blocks.{}",
        TRANSFORMER_OUTPUT: "{}.proj_out",
    }
    blocks = unet.blocks()
    places = [parts.get(block.kind, "{}").format(block.name, block.layer) for block in blocks]
    for place in places:
        unet.get_submodule(place).register_forward_hook(lambda *_, place=place: calls.append(place))
    run(unet, inputs(unet))
    assert calls == places
    assert {block.level for block in blocks} == {0, 1}
    assert unet.temporal_block_names() == list(dict.fromkeys(block.name for block in blocks if block.temporal))
    pruned = unet.derive(temporal_blocks=[])
    assert pruned.blocks() == [block for block in blocks if not block.temporal]


def test_block_modules_are_found_inside_any_module() -> None:
    unet = small_unet(transformer_layers_per_block=2)
    without, with_resamplers = block_modules(unet), block_modules(unet, resamplers=True)
    wholes = {path for path, _ in unet.named_modules() if (b := block_at(path)) is not None and b.name == path}
    assert set(with_resamplers) == wholes - {CONV_IN, CONV_OUT}
    assert set(with_resamplers) - set(without) == {"down_blocks.0.downsamplers.0", "up_blocks.0.upsamplers.0"}
