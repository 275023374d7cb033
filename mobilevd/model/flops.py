"""Counting a UNet's floating-point operations and parameters without running it: everything on the meta device.

The convention is the usual one: a multiply-accumulate is 2 operations, and convolutions, linear layers and the two
products of attention count; norms, activations, sums and softmax do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mobilevd.model.anatomy import block_modules
from mobilevd.model.layers.attention import CrossAttentionProjection
from mobilevd.model.layers.transformer import AttentionBlock
from mobilevd.model.unet import SpatioTemporalUNet

CONVOLUTION, LINEAR, ATTENTION = "convolution", "linear", "attention"
_KIND_OF = {"convolution": CONVOLUTION, "_convolution": CONVOLUTION, "mm": LINEAR, "addmm": LINEAR}


@dataclass(frozen=True)
class FlopCount:
    """The cost of one evaluation.

    Attributes:
        flops: floating-point operations, 2 per multiply-accumulate.
        parameters: number of weights.
        by_kind: the operations of "convolution", "linear" and "attention" (batched products: the attention's own two,
            and funnels per head while they are live).
    """

    flops: int
    parameters: int
    by_kind: dict[str, int] = field(default_factory=dict)

    @property
    def tflops(self) -> float:
        """Operations in units of 10^12."""
        return self.flops / 1e12


# The cost and the output shape of a block, by the block's kind, weights and input shapes. A UNet repeats a few blocks
# many times, and compressed forms of it share most of them.
_Memo = dict[Any, tuple[Counter[str], torch.Size]]
_memo: _Memo = {}


class _Counting(TorchDispatchMode):
    """A dispatch mode that adds up all operations inside it, with PyTorch's own formula for each operator."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        operator = func._overloadpacket
        if operator in flop_registry:
            kind = _KIND_OF.get(operator.__name__, ATTENTION)
            self.counts[kind] += int(flop_registry[operator](*args, **(kwargs or {}), out_val=out))
        return out


def _remember(block: nn.Module, counting: _Counting, extra_key: object) -> None:
    """Make `block` reuse its cost if the same block has run on the same shapes before."""
    forward: Callable[..., Tensor] = block.forward
    weights = tuple((name, tuple(weight.shape)) for name, weight in block.named_parameters())

    def counted(*args: Any) -> Tensor:
        shapes = tuple(tuple(a.shape) if isinstance(a, Tensor) else a for a in args)
        key = (type(block), weights, shapes, extra_key)
        if key not in _memo:
            before = counting.counts.copy()
            out = forward(*args)
            _memo[key] = (counting.counts - before, out.shape)
            return out
        counts, shape = _memo[key]
        counting.counts.update(counts)
        return torch.empty(shape, device="meta")

    setattr(block, "forward", counted)  # noqa: B010 (pyright: a method is no place to assign to)


def _project_everywhere(block: AttentionBlock, counting: _Counting) -> None:
    """Count the cross-attention projection of `block` as SVD's code runs its two layers (see `count_flops`)."""

    def add(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        sequences, context = args[0].shape[0], args[1]
        projection = block.attn2
        assert isinstance(projection, CrossAttentionProjection)
        width, context_width = projection.proj.weight.shape
        once = context.shape[0] * context_width * width  # already counted: W_O W_V c, once per clip
        counting.counts[LINEAR] += 2 * (sequences * (context_width * width + width * width) - once)

    block.register_forward_hook(add)


def count_flops(
    unet_or_config: SpatioTemporalUNet | Mapping[str, Any],
    num_frames: int,
    height: int,
    width: int,
    batch: int = 1,
    project_everywhere: bool = False,
    training_form: bool = False,
) -> FlopCount:
    """Count one evaluation of a UNet, compressed or not, funnels live or merged.

    Args:
        unet_or_config: a model (its weights are not read), or its config.
        num_frames, height, width, batch: size of the latents.
        project_everywhere: count single-token cross-attention ("projection") not as it runs here, `W_O W_V c` once per
            clip, but as the layers that are left of SVD's code would run: W_V and W_O one after the other, on an image
            token repeated to every frame (spatial) and to every position (temporal).
        training_form: count the forward pass as training computes it (`Backbone.set_training_form`), which is less for
            full cross-attention.

    Raises:
        UserError: a size that does not fit the UNet, or a config that describes no UNet.
    """
    source = unet_or_config.config if isinstance(unet_or_config, SpatioTemporalUNet) else unet_or_config
    config = {key: value for key, value in dict(source).items() if not key.startswith("_")}
    with torch.device("meta"):
        unet = SpatioTemporalUNet(**config)
    if training_form:
        unet.set_training_form()
    counting = _Counting()
    for block in block_modules(unet).values():
        _remember(block, counting, (project_everywhere, training_form))
    for block in list(unet.modules()):
        if isinstance(block, nn.GroupNorm | nn.LayerNorm):
            setattr(block, "forward", lambda x: x)  # noqa: B010 (counts nothing, keeps the shape, is slow on meta)
        if project_everywhere and isinstance(block, AttentionBlock) and block.norm2 is None:
            _project_everywhere(block, counting)
    ids = int(unet.config["projection_class_embeddings_input_dim"]) // int(unet.config["addition_time_embed_dim"])
    channels = unet.latent_channels + unet.condition_channels
    shapes = (batch, num_frames, channels, height, width), (batch,), (batch, 1, unet.context_dim), (batch, ids)
    with torch.no_grad(), counting:
        unet(*(torch.empty(shape, device="meta") for shape in shapes))
    parameters = sum(weight.numel() for weight in unet.parameters())
    return FlopCount(sum(counting.counts.values()), parameters, dict(counting.counts))
