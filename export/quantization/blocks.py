"""The blocks that precision is chosen for, and the size of their weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mobilevd.model.anatomy import block_at, block_modules, in_unet

FLOAT_BYTES = {"fp32": 4, "fp16": 2}
"""Bytes per weight. Every other precision has one byte, or half of one where it has four bits (linear layers)."""


@dataclass(frozen=True)
class LayerGroup:
    """A part of the model whose layers share a precision.

    Attributes:
        layers: its convolutions and linear layers, by full path.
        norms: modules without such layers that go with it, though they lie outside (the norm before the last convolution).
    """

    name: str
    layers: dict[str, nn.Conv2d | nn.Linear]
    norms: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all modules that have its precision."""
        return (self.name, *self.norms)

    def size_bytes(self, precision: str) -> float:
        """Size of its weights at a precision, scales and biases included."""
        return sum(_layer_bytes(layer, precision) for layer in self.layers.values())


def find_blocks(module: nn.Module) -> list[LayerGroup]:
    """Group every convolution and linear layer of a program's module: UNet blocks, else each layer by itself."""
    tops = block_modules(module, resamplers=True)
    found: dict[str, dict[str, nn.Conv2d | nn.Linear]] = {}
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            block = next((top for top in tops if path.startswith(f"{top}.")), path)
            found.setdefault(block, {})[path] = layer
    names = {in_unet(name) for name in found}
    norms: dict[str, list[str]] = {}
    for path, _ in module.named_modules():
        block = block_at(path)
        if block is not None and block.name in names and not f"{in_unet(path)}.".startswith(f"{block.name}."):
            norms.setdefault(block.name, []).append(in_unet(path))
    return [LayerGroup(in_unet(name), layers, tuple(norms.get(in_unet(name), ()))) for name, layers in found.items()]


def _layer_bytes(layer: nn.Conv2d | nn.Linear, precision: str) -> float:
    weights, channels = layer.weight.numel(), layer.weight.shape[0]
    bias = channels * FLOAT_BYTES.get(precision, 4)
    if precision in FLOAT_BYTES:
        return weights * FLOAT_BYTES[precision] + bias
    if precision == "8da4w" and isinstance(layer, nn.Linear):
        return weights * (0.5 + 2 / 32) + bias  # a scale of two bytes for every 32 weights
    return weights + channels * 4 + bias
