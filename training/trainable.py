"""The weights of a UNet that a stage trains: all, the temporal layers', or low-rank additions to all (LoRA)."""

from __future__ import annotations

from typing import Any, Literal, cast

from torch import nn

from mobilevd.errors import UserError
from mobilevd.model.anatomy import in_residual_or_transformer, is_temporal
from mobilevd.model.unet import SpatioTemporalUNet

Train = Literal["all", "temporal", "lora"]
GATES = "temporal_importance"


def select(unet: SpatioTemporalUNet, train: Train, rank: int = 16) -> SpatioTemporalUNet:
    """Let only some weights of `unet` be trained, in place, after the transforms' `begin`.

    "temporal": the temporal parts of residual blocks and transformers, their blends and the frames' positions. "lora": peft
    puts low-rank additions of `rank` beside every linear layer and convolution of residual blocks and transformers; with
    zeros to begin with, they change nothing; their scale is 1. What a transform put in to be trained, gates and funnels,
    is trained in any case. `merge` makes it a plain model again.

    Raises UserError if the UNet has no temporal layers.
    """
    module = cast(nn.Module, unet)
    if train == "all":
        module.requires_grad_(True)
        return unet
    if train == "temporal" and not unet.temporal_block_names():
        raise UserError("training.train=temporal: this UNet has no temporal blocks left; use train=all or train=lora")
    if train == "lora":
        _add_low_rank(unet, rank)
    for name, parameter in module.named_parameters():
        own = name == GATES or ".funnel_" in name
        chosen = is_temporal(name) if train == "temporal" else "lora_" in name
        parameter.requires_grad_(own or chosen)
    return unet


def merge(unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
    """Add low-rank additions to the weights they stand beside, in place: the same outputs from a plain model.

    All weights can be trained again. A model without additions is left as it is but for that.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    module = cast(nn.Module, unet)
    for name, layer in list(module.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            cast(Any, layer).merge()
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, layer.get_base_layer())
    if hasattr(unet, "peft_config"):
        del unet.peft_config  # peft's note of what it added
    module.requires_grad_(True)
    return unet


def trained_names(unet: SpatioTemporalUNet) -> list[str]:
    """Names of the parameters that are trained, in the model's order."""
    return [name for name, parameter in cast(nn.Module, unet).named_parameters() if parameter.requires_grad]


def _add_low_rank(unet: SpatioTemporalUNet, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    names = [
        name
        for name, layer in cast(nn.Module, unet).named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and in_residual_or_transformer(name) and ".funnel_" not in name
    ]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=names), cast(nn.Module, unet))
