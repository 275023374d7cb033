"""Simulation of a runtime's rounding in PyTorch: layers of a module compute as if in another precision.

The simulation is exact for the weights, and exact up to the runtime's own rounding for the activations. If a runtime
does more (fixed ranges found by search, not by extremes), it is an estimate; exported programs are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from export.quantization.blocks import LayerGroup
from export.quantization.weights import GROUP_SIZE, WeightFormat, quantize_weight

FORMATS = {"8da8w": WeightFormat(8), "int8": WeightFormat(8), "8da4w": WeightFormat(4, GROUP_SIZE)}
Ranges = Mapping[nn.Module, tuple[Tensor, Tensor]]
"""Extremes (low, high) of each layer's input over the calibration inputs."""


@contextmanager
def simulated(block: LayerGroup, precision: str, ranges: Ranges | None = None) -> Iterator[None]:
    """Round the weights and inputs of the block's layers as `precision` does, while the context lasts."""
    with ExitStack() as stack:
        for layer in block.layers.values():
            weight = layer.weight.data
            stack.callback(_restore, layer, weight)
            layer.weight.data = _rounded_weight(weight, precision)
            hook = layer.register_forward_pre_hook(_input_rounding(layer, precision, ranges))
            stack.callback(hook.remove)
        yield


def observe_ranges(module: nn.Module, blocks: Sequence[LayerGroup], inputs: Sequence[tuple[Tensor, ...]]) -> Ranges:
    """Return the extremes of every layer's input."""
    ranges: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def observe(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        low, high = torch.aminmax(arguments[0])
        before = ranges.get(layer, (low, high))
        ranges[layer] = (torch.minimum(low, before[0]), torch.maximum(high, before[1]))

    hooks = [layer.register_forward_pre_hook(observe) for block in blocks for layer in block.layers.values()]
    try:
        with torch.no_grad():
            for each in inputs:
                module(*each)
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def _restore(layer: nn.Conv2d | nn.Linear, weight: Tensor) -> None:
    layer.weight.data = weight


def _rounded_weight(weight: Tensor, precision: str) -> Tensor:
    return quantize_weight(weight, FORMATS[precision]).dequantized() if precision in FORMATS else weight


def _input_rounding(layer: nn.Module, precision: str, ranges: Ranges | None) -> Any:
    def round_input(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x = arguments[0]
        if precision == "int8" and ranges is not None:
            x = _to_eight_bits(x, *ranges[layer])
        elif precision in FORMATS:
            # one range per token of a linear layer, or per frame of a convolution
            axes = tuple(range(1, x.ndim)) if isinstance(layer, nn.Conv2d) else (-1,)
            x = _to_eight_bits(x, x.amin(axes, keepdim=True), x.amax(axes, keepdim=True))
        return (x, *arguments[1:])

    return round_input


def _to_eight_bits(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Round to 256 steps between low and high, one of which is zero."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / 255).clamp(min=1e-12)
    zero = torch.round(-low / scale)
    return (torch.round(x / scale + zero).clamp(0, 255) - zero) * scale
