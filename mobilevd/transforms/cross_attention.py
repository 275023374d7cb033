"""Cross-attention to one image token without its attention: the same output from one linear layer."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from mobilevd.config.transforms import CrossAttentionSettings
from mobilevd.model.layers.attention import Attention
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.base import Transform, rebuild


class CrossAttention(Transform[CrossAttentionSettings]):
    """Replace `softmax(q k^T) v` over one key by `W_O W_V c + b_O` (MobileVD, "optimized cross-attention").

    The softmax over a single key is 1, so queries, keys and the norm in front of them do nothing. The rewrite is exact
    and needs no training; spatial and temporal cross-attention alike.
    """

    def begin(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        return project_cross_attention(unet)


def project_cross_attention(unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
    """The UNet with `W_O W_V c + b_O` for every cross-attention; `unet` itself if it has no other cross-attention."""
    if unet.config["cross_attention"] == "projection":
        return unet
    tensors: dict[str, Tensor] = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, Attention) and name.endswith(".attn2"):
            output = cast(nn.Linear, layer.to_out[0])
            # in double precision, so that only the rounding of the result itself is left
            product = output.weight.detach().double() @ layer.to_v.weight.detach().double()
            tensors[f"{name}.proj.weight"] = product
            tensors[f"{name}.proj.bias"] = output.bias.detach()
    return rebuild(unet, tensors, cross_attention="projection")
