"""Folding constants into the UNet: exact, in double precision, for every form of the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.generator.folding import fold_for_phone
from export.generator.one_step import OneStepGenerator, OneStepSettings
from mobilevd.model.layers import ops
from mobilevd.model.layers.resnet import ResidualPart
from mobilevd.model.unet import SpatioTemporalUNet
from tests.mobilevd.unets import small_unet

FRAMES, SIZE = 4, (4, 8)
NARROW = {"mid_block.attentions.0.transformer_blocks.0.attn1.qk": 8, "mid_block.resnets.0.spatial_res_block.conv": 24}


def inputs(unet: SpatioTemporalUNet) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = ((FRAMES, 4, *SIZE), (1, 4, *SIZE), (1, 1, unet.config["cross_attention_dim"]))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)  # type: ignore


def randomized(**changes: Any) -> SpatioTemporalUNet:
    """No weight or bias is left at an initial value that would hide a mistake."""
    unet = small_unet(**changes).double()
    with torch.no_grad():
        for module in unet.modules():
            if isinstance(module, nn.GroupNorm | nn.LayerNorm):
                module.weight.normal_(1, 0.3)
                module.bias.normal_(0, 0.3)
    return unet


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cross_attention": "projection", "temporal_scale": 2, "spatial_scale": 2},
        {"temporal_blocks": ["down_blocks.0.attentions.0", "mid_block.resnets.1"]},
        {"inner_widths": NARROW},
    ],
    ids=["uncompressed", "multiscale", "pruned", "narrowed"],
)  # fmt: skip
def test_folding_changes_no_number(changes: dict[str, Any]) -> None:
    unet = randomized(**changes)
    generator = OneStepGenerator(unet, OneStepSettings(*SIZE, FRAMES))
    arguments = inputs(unet)
    with torch.no_grad():
        expected = generator(*arguments)
        generator.unet = fold_for_phone(unet, generator.embedding)
        torch.testing.assert_close(generator(*arguments), expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


def test_folding_with_the_conditioning_left_open_changes_no_number() -> None:
    unet = randomized()
    settings = OneStepSettings(*SIZE, FRAMES, conditioning_inputs=True)
    generator = OneStepGenerator(unet, settings)
    arguments = (*inputs(unet), settings.time_ids().double() * 1.7)
    with torch.no_grad():
        expected = generator(*arguments)
        generator.unet = fold_for_phone(unet, None)
        torch.testing.assert_close(generator(*arguments), expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


def test_what_is_folded_is_gone() -> None:
    unet = randomized()
    folded = fold_for_phone(unet, torch.randn(1, 128, dtype=torch.float64))
    assert all(part.time_emb_proj is None for part in folded.modules() if isinstance(part, ResidualPart))
    assert not any(isinstance(norm, nn.LayerNorm) and norm.weight is not None for norm in folded.modules())
    assert any(part.time_emb_proj is not None for part in unet.modules() if isinstance(part, ResidualPart))


@pytest.mark.parametrize(("limit", "chunk"), [(10**9, (6, 16)), (4 * 16 * 40, (2, 16)), (4 * 16 * 5, (1, 5))])
def test_attention_in_chunks_is_attention(limit: int, chunk: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, cut between heads, and cut between queries (16 queries, 5 at a time: the last part is shorter)."""
    monkeypatch.setattr(ops, "ATTENTION_CHUNK_BYTES", limit)
    assert ops.attention_chunk(6, 16, 16) == chunk
    attend = ops.ScaledDotProduct(0.3)
    q, k, v = (torch.randn(3, 2, 16, width, dtype=torch.float64) for width in (8, 8, 4))
    native = attend(q, k, v)
    ops.set_phone_form(attend)
    torch.testing.assert_close(attend(q, k, v), native, rtol=1e-12, atol=1e-12)
