"""SVD's VAE as two programs: from a picture to its latents, and from a chunk of latents to frames."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.codec.layers import Pair, convolution, convolution_of, group_norm
from export.codec.vae_blocks import PixelAttention, ResidualBlock, SpatioTemporalBlock, over_time
from mobilevd.model.layers.ops import NearestUpsample


class Downsample(nn.Module):
    """A strided convolution whose input is padded with zeros at the bottom and on the right only."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        if source.padding != 0 or source.norm is not None:
            raise ValueError("the downsampling is not that of SVD's VAE (no padding of its own, no norm)")
        self.conv = convolution(source.conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class VaeEncoder(nn.Module):
    """Picture (1, 3, H, W) in [-1, 1] to the mode of its latents (1, 4, h, w), not scaled.

    The mode is the first half of the last layer's outputs, so the other half, the variances, is not computed; the last
    two convolutions, one of them 1x1, are composed into one.

    Args:
        vae: diffusers' `AutoencoderKLTemporalDecoder`.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        encoder = vae.encoder
        self.conv_in = convolution(encoder.conv_in)
        stages: list[nn.Module] = []
        for block in encoder.down_blocks:
            stages += [ResidualBlock(resnet) for resnet in block.resnets]
            stages += [Downsample(each) for each in block.downsamplers or ()]
        self.down_blocks = nn.Sequential(*stages)
        first, second = encoder.mid_block.resnets
        (attention,) = encoder.mid_block.attentions
        self.mid_block = nn.Sequential(ResidualBlock(first), PixelAttention(attention), ResidualBlock(second))
        self.conv_norm_out = group_norm(encoder.conv_norm_out)
        self.conv_out = _composed(encoder.conv_out, vae.quant_conv, outputs=vae.config.latent_channels)

    def forward(self, augmented_picture: Tensor) -> Tensor:
        x = self.mid_block(self.down_blocks(self.conv_in(augmented_picture)))
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def _composed(first: nn.Conv2d, second: nn.Conv2d, outputs: int) -> nn.Conv2d:
    """Compose `first` and the 1x1 `second` into one convolution with `outputs` channels, in double precision."""
    if tuple(second.kernel_size) != (1, 1) or first.bias is None or second.bias is None:
        raise ValueError("only a 1x1 convolution with a bias goes into the one before it")
    mixing = second.weight.detach().double()[:outputs, :, 0, 0]  # (outputs, between)
    weight = torch.einsum("ob,bikl->oikl", mixing, first.weight.detach().double())
    bias = mixing @ first.bias.detach().double() + second.bias.detach().double()[:outputs]
    dtype = first.weight.dtype
    return convolution_of(weight.to(dtype), bias.to(dtype), cast(Pair, first.stride), cast(Pair, tuple(first.padding)))


class TemporalDecoder(nn.Module):
    """Scaled latents of a chunk of frames (T, 4, h, w) to the frames (T, 3, H, W) in [-1, 1], decoded together.

    Args:
        vae: diffusers' `AutoencoderKLTemporalDecoder`.
        scaling_factor: scaled latent per unscaled latent.
    """

    def __init__(self, vae: Any, scaling_factor: float) -> None:
        super().__init__()
        decoder = vae.decoder
        self.scaling_factor = scaling_factor
        self.conv_in = convolution(decoder.conv_in)
        middle = decoder.mid_block
        stages: list[nn.Module] = [SpatioTemporalBlock(middle.resnets[0])]
        for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=False):  # one attention, any blocks
            stages += [PixelAttention(attention), SpatioTemporalBlock(resnet)]
        self.mid_block = nn.Sequential(*stages)
        stages = []
        for block in decoder.up_blocks:
            stages += [SpatioTemporalBlock(resnet) for resnet in block.resnets]
            for upsampler in block.upsamplers or ():
                stages += [NearestUpsample(2), convolution(upsampler.conv)]
        self.up_blocks = nn.Sequential(*stages)
        self.conv_norm_out = group_norm(decoder.conv_norm_out)
        self.conv_out = convolution(decoder.conv_out)
        self.time_conv_out = convolution(decoder.time_conv_out)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.up_blocks(self.mid_block(self.conv_in(latents / self.scaling_factor)))
        frames = self.conv_out(F.silu(self.conv_norm_out(x)))  # (T, 3, H, W)
        return over_time(self.time_conv_out, frames).clamp(-1, 1)
