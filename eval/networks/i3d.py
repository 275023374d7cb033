"""Inception-v1 inflated to three dimensions, I3D (Carreira and Zisserman 2017, figure 3), RGB, logits over Kinetics-400.

Modules are named as in `i3d_pretrained_400.pt`, the TensorFlow Hub module i3d-kinetics-400 in PyTorch's form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from eval.networks.extractor import NetworkExtractor, NetworkFacts
from eval.networks.state_files import load_strictly, read_state
from eval.preprocessing import Preprocessing
from eval.weights import WEIGHTS, check_hash

CLASSES = 400
# Converted with VideoGPT's code, whose epsilon is 1e-5; other PyTorch ports of I3D have 1e-3.
NORM_EPSILON = 1e-5
# Time is halved three times (rounded up) and two steps are pooled: 9 frames leave two.
FACTS = NetworkFacts("i3d-kinetics400-tfhub", CLASSES, min_frames=9, batch_size=8)

# Figure 3 from the input on. A convolution: (channels, kernel, stride); a pool: (kernel, stride); a Mixed block: the
# channels of its branches, 1x1 | 1x1, 3x3 | 1x1, 3x3 | pool, 1x1.
STEM: tuple[tuple[str, Any], ...] = (
    ("Conv3d_1a_7x7", (64, 7, 2)),
    ("MaxPool3d_2a_3x3", ((1, 3, 3), (1, 2, 2))),
    ("Conv3d_2b_1x1", (64, 1, 1)),
    ("Conv3d_2c_3x3", (192, 3, 1)),
    ("MaxPool3d_3a_3x3", ((1, 3, 3), (1, 2, 2))),
    ("Mixed_3b", (64, 96, 128, 16, 32, 32)),
    ("Mixed_3c", (128, 128, 192, 32, 96, 64)),
    ("MaxPool3d_4a_3x3", ((3, 3, 3), (2, 2, 2))),
    ("Mixed_4b", (192, 96, 208, 16, 48, 64)),
    ("Mixed_4c", (160, 112, 224, 24, 64, 64)),
    ("Mixed_4d", (128, 128, 256, 24, 64, 64)),
    ("Mixed_4e", (112, 144, 288, 32, 64, 64)),
    ("Mixed_4f", (256, 160, 320, 32, 128, 128)),
    ("MaxPool3d_5a_2x2", ((2, 2, 2), (2, 2, 2))),
    ("Mixed_5b", (256, 160, 320, 32, 128, 128)),
    ("Mixed_5c", (384, 192, 384, 48, 128, 128)),
)


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Pad (N, C, T, H, W) with zeros as TensorFlow's SAME: ceil(length / stride) outputs, an odd pixel at the end.

    Zeros serve the pools too, which only see what a ReLU left.
    """
    padding: list[int] = []  # torch wants the last axis first
    for length, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max((-(-length // s) - 1) * s + k - length, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


class ConvUnit(nn.Module):
    """Convolution with SAME padding, batch norm, ReLU; or a plain one with a bias."""

    bn: nn.Module | None

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, plain: bool = False
    ) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels_in, channels_out, kernel, stride, bias=plain)
        self.bn = None if plain else nn.BatchNorm3d(channels_out, eps=NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(pad_same(x, self.conv3d.kernel_size, self.conv3d.stride))
        return x if self.bn is None else F.relu_(self.bn(x))

    def fold(self) -> None:
        """Take the norm, as evaluation has it, into the convolution; the function stays the same but for rounding."""
        if isinstance(self.bn, nn.BatchNorm3d):
            self.conv3d = fuse_conv_bn_eval(self.conv3d, self.bn)
            self.bn = nn.Identity()


class SamePool(nn.MaxPool3d):
    """Max pooling with SAME padding."""

    def forward(self, input: Tensor) -> Tensor:
        assert isinstance(self.kernel_size, tuple) and isinstance(self.stride, tuple)
        return F.max_pool3d(pad_same(input, self.kernel_size, self.stride), self.kernel_size, self.stride)


class MixedBlock(nn.Module):
    """Inception block: four branches side by side, joined by channels."""

    def __init__(self, channels_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        w0, w1a, w1b, w2a, w2b, w3 = widths
        self.b0 = ConvUnit(channels_in, w0)
        self.b1a, self.b1b = ConvUnit(channels_in, w1a), ConvUnit(w1a, w1b, 3)
        self.b2a, self.b2b = ConvUnit(channels_in, w2a), ConvUnit(w2a, w2b, 3)
        self.b3a, self.b3b = SamePool((3, 3, 3), (1, 1, 1)), ConvUnit(channels_in, w3)

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x)))
        return torch.cat(branches, dim=1)


class InflatedInception(nn.Module):
    """A map from clips (N, 3, T, 224, 224) in [-1, 1] to logits (N, 400), their mean over time."""

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for name, sizes in STEM:
            if name.startswith("MaxPool"):
                self.add_module(name, SamePool(*sizes))
            elif name.startswith("Conv"):
                self.add_module(name, ConvUnit(channels, *sizes))
                channels = sizes[0]
            else:
                self.add_module(name, MixedBlock(channels, sizes))
                channels = sizes[0] + sizes[2] + sizes[4] + sizes[5]
        self.logits = ConvUnit(channels, CLASSES, plain=True)

    def for_inference(self) -> InflatedInception:
        """This network in the form that is 1.7 times as fast on a CPU: norms folded, channels last. Not for training."""
        for part in self.eval().modules():
            if isinstance(part, ConvUnit):
                part.fold()
        cast(Any, self).to(memory_format=torch.channels_last_3d)  # in place; torch's types lack this argument
        return self

    def forward(self, x: Tensor) -> Tensor:
        for name, _ in STEM:
            x = self.get_submodule(name)(x)  # at the end (N, 1024, T/8, 7, 7)
        x = self.logits(F.avg_pool3d(x, (2, 7, 7), stride=1))  # (N, 400, T/8 - 1, 1, 1)
        return x.mean(dim=2).flatten(1)


def load_i3d(
    file: Path,
    preprocessing: Preprocessing,
    *,
    distance_name: str = "FVD",
    device: str = "cpu",
    batch_size: int | None = None,
    trusted: str | None = None,
) -> NetworkExtractor:
    """I3D with the weights of a file; UserError if they are not the published ones nor `trusted`, their SHA-256."""
    weights = WEIGHTS["i3d"]
    sha256 = check_hash(file, weights, trusted)
    network = InflatedInception()
    load_strictly(network, read_state(file), file, f"the weights of I3D ({weights.source})")
    return NetworkExtractor(
        network.for_inference(),
        FACTS,
        preprocessing,
        distance_name=distance_name,
        files=[file],
        sha256=[sha256],
        device=device,
        batch_size=batch_size,
    )
