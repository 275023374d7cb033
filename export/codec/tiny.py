"""diffusers' tiny autoencoder as programs (the tiny codec's, or TAESD as a decoder), and the tiny codec's thumbnail."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.codec.layers import SeparableMap, convolution, unit_pictures
from mobilevd.codecs.tiny import THUMBNAIL
from mobilevd.errors import UserError
from mobilevd.model.layers.ops import NearestUpsample


class TinyBlock(nn.Module):
    """Three convolutions and a residual: (N, C, H, W) -> (N, C', H, W). `source`: diffusers' `AutoencoderTinyBlock`."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.conv = tiny_layers(source.conv)
        self.skip = convolution(source.skip) if isinstance(source.skip, nn.Conv2d) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x) + self.skip(x))


def tiny_layers(source: nn.Sequential) -> nn.Sequential:
    """The layers of a tiny encoder or decoder, around the same weights."""
    layers: list[nn.Module] = []
    for layer in source:
        if isinstance(layer, nn.Conv2d):
            layers.append(convolution(layer))
        elif isinstance(layer, nn.Upsample):
            factor = layer.scale_factor
            if layer.mode != "nearest" or not isinstance(factor, int | float) or int(factor) != factor:
                raise UserError(
                    f"export of a tiny autoencoder: it upsamples by {factor}, {layer.mode}; only nearest by a whole number "
                    "is known"
                )
            layers.append(NearestUpsample(int(factor)))
        elif hasattr(layer, "fuse"):
            layers.append(TinyBlock(layer))
        else:
            layers.append(layer)  # an activation: it has no weights
    return nn.Sequential(*layers)


class TinyEncoder(nn.Module):
    """Picture (1, 3, H, W) in [-1, 1] to unscaled latents (1, C, h, w). `source`: diffusers' `EncoderTiny`."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.layers = tiny_layers(source.layers)

    def forward(self, augmented_picture: Tensor) -> Tensor:
        return self.layers(augmented_picture * 0.5 + 0.5)  # before the first padding, so not part of that convolution


class TinyDecoder(nn.Module):
    """Scaled latents (N, C, h, w) to frames (N, 3, H, W) in [-1, 1], each frame on its own.

    Args:
        source: diffusers' `DecoderTiny`.
        scaling_factor, shift: the decoder was trained on scaled / scaling_factor + shift, with shift (1, C, 1, 1).
    """

    shift: Tensor

    def __init__(self, source: Any, scaling_factor: float, shift: Tensor) -> None:
        super().__init__()
        self.layers = tiny_layers(source.layers)
        self.scaling_factor = scaling_factor
        self.register_buffer("shift", shift.detach().clone())

    def forward(self, latents: Tensor) -> Tensor:
        x = latents / self.scaling_factor + self.shift
        x = torch.tanh(x / 3) * 3
        return (self.layers(x) * 2 - 1).clamp(-1, 1)


class Thumbnail(nn.Module):
    """Picture (1, 3, H, W) to the tiny codec's embedding (1, 1, 96): the means of 4 x 8 cells, as two matrices.

    The matrices are those of PyTorch's adaptive pooling: cells overlap by a pixel where the size does not divide.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        rows = functional.adaptive_avg_pool2d(unit_pictures(height), (THUMBNAIL[0], height))[0, 0]
        columns = functional.adaptive_avg_pool2d(unit_pictures(width), (THUMBNAIL[1], width))[0, 0]
        self.cells = SeparableMap(rows, columns)

    def forward(self, picture: Tensor) -> Tensor:
        return self.cells(picture).reshape(1, 1, -1)
