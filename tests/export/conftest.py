"""A program with one of everything that a UNet's graph is made of, small enough for the slow converters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from export.program.program import Program
from mobilevd.model.layers.architecture import Architecture
from mobilevd.model.layers.resnet import SpatioTemporalResBlock
from mobilevd.model.layers.transformer import AttentionBlock, SpatioTemporalTransformer
from tests.export.lowered import equal_models_traced_once

FRAMES = 2


class Blocks(nn.Module):
    """Frames (T, 4, 8, 8) and image token (1, 1, 16) -> (T, 4, 4, 4)."""

    embedding: Tensor

    def __init__(self) -> None:
        super().__init__()
        arch = Architecture(cross_attention="projection")
        self.conv_in = nn.Conv2d(4, 64, 3, stride=2, padding=1)
        self.resnet = SpatioTemporalResBlock("resnet", 64, 64, 8, 1e-5, arch)
        self.transformer = SpatioTemporalTransformer("transformer", 64, 2, 1, 16, arch)
        self.conv_out = nn.Conv2d(64, 4, 3, padding=1)
        self.register_buffer("embedding", torch.ones(1, 8))
        block = self.transformer.transformer_blocks[0]
        assert isinstance(block, AttentionBlock)
        block.attn1.attend.scale = 1.0  # as it is when the scale was folded into the queries
        for norm in (self.transformer.norm, block.norm1):  # and the affine part into the layer behind
            norm.register_parameter("weight", None)
            norm.register_parameter("bias", None)

    def forward(self, frames: Tensor, context: Tensor) -> Tensor:
        x = self.resnet(self.conv_in(frames), self.embedding, FRAMES)
        return self.conv_out(self.transformer(x, context, torch.arange(FRAMES)))


@pytest.fixture(scope="session", autouse=True)
def traced_once() -> Iterator[None]:
    with equal_models_traced_once():
        yield


@pytest.fixture(scope="session")
def small_program() -> Program:
    torch.manual_seed(0)
    module = Blocks().eval().requires_grad_(False)
    inputs = {"frames": torch.randn(FRAMES, 4, 8, 8), "context": torch.randn(1, 1, 16)}
    return Program("blocks", module, {"noise": inputs}, {"noise": [module(*inputs.values())]}, ("latents",))
