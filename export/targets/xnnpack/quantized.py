"""Quantized layers: integer weights, and activations in eight bits with fixed or measured ranges.

dynamic   every token (linear) or frame (convolution) gets its own range when the program runs; the sums come out in
          floating point. XNNPACK: qd8 x qc8w, qd8 x qc4w, qd8 x qb4w -> f32.
static    one range per tensor, fixed at calibration; the output is in eight bits too. XNNPACK: qs8 x qc8w -> qs8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
from torch import Tensor

from export.quantization.weights import QuantizedWeight
from export.targets.xnnpack.graph import FP32, Axes, GraphBuilder, Unsupported, Value

QINT8, QDINT8 = schema.XNNDatatype.xnn_datatype_qint8, schema.XNNDatatype.xnn_datatype_qdint8


@dataclass(frozen=True)
class FixedRange:
    """A static range: real = (integer - zero_point) * scale."""

    scale: float
    zero_point: int

    def params(self) -> schema.PerTensorQuant:
        return schema.PerTensorQuant(scale=self.scale, zero_point=self.zero_point)


def is_static(g: GraphBuilder, x: Value) -> bool:
    """True if a value is stored in eight bits with a fixed range."""
    return g.type_of(x) == QINT8


def quantize(
    g: GraphBuilder, x: Value, scale: float, zero_point: int, low: int, high: int, dtype: torch.dtype
) -> Value:
    """Translate `quantized_decomposed.quantize_per_tensor`."""
    if dtype != torch.int8 or (low, high) not in ((-128, 127), (-127, 127)):
        raise Unsupported(f"quantization to {dtype} in [{low}, {high}]")
    return g.as_type(x, QINT8, FixedRange(float(scale), int(zero_point)).params())


def dequantize(g: GraphBuilder, x: Value, *_: Any, **__: Any) -> Value:
    """Translate `quantized_decomposed.dequantize_per_tensor`: done only for users that need floating point."""
    return x


def layer_input(g: GraphBuilder, x: Value, nonbatch_dims: int) -> Value:
    """The input of a quantized layer, in eight bits with the fixed range it came with or one per token or frame."""
    if is_static(g, x):
        return x
    return g.as_type(g.as_type(x, FP32), QDINT8, schema.PerTokenDynamicQuant(num_nonbatch_dims=nonbatch_dims))


def layer_output(static_input: bool, output: FixedRange | None) -> dict[str, Any]:
    """The type of a quantized layer's output, as arguments of `emit`."""
    if not static_input:
        return {"datatype": FP32}
    if output is None:
        raise Unsupported("a layer with fixed input range whose output has none")
    return {"datatype": QINT8, "quantization": output.params()}


def weight_value(g: GraphBuilder, weight: QuantizedWeight, order: Axes, packed_for: str) -> int:
    """Id of the integer weights, their axes in the layer's memory order (output channels first)."""
    values = weight.values.permute(order)
    dims = tuple(values.shape)
    count = weight.scale.numel()
    if weight.group_size is not None:
        scales = weight.scale.to(torch.bfloat16).view(torch.int16).numpy()
        params: schema.XNNQuantParams = schema.PerChannelGroupQuant(
            scale=[], channel_dim=0, group_size=weight.group_size, scale_buffer_idx=g.scales(scales), num_scales=count
        )
        return g.stored(_packed4(values), dims, schema.XNNDatatype.xnn_datatype_qbint4, packed_for, params)
    scales = weight.scale.to(torch.float32).reshape(-1).numpy()
    params = schema.PerChannelQuant(scale=[], channel_dim=0, scale_buffer_idx=g.scales(scales), num_scales=count)
    if weight.bits == 4:
        return g.stored(_packed4(values), dims, schema.XNNDatatype.xnn_datatype_qcint4, packed_for, params)
    return g.stored(values.numpy(), dims, schema.XNNDatatype.xnn_datatype_qcint8, packed_for, params)


def bias_value(g: GraphBuilder, bias: Tensor, weight: QuantizedWeight, x: Value, packed_for: str) -> int:
    """Id of the bias: in float32, or for fixed ranges in 32-bit integers of the products' own scale."""
    if not is_static(g, x):
        return g.weight(bias, packed_for, keep_float32=True)
    given = g.quantization[x.id]
    assert isinstance(given, schema.PerTensorQuant)
    scale = weight.scale.double().reshape(-1) * given.scale
    limit = 2**31 - 1
    integers = torch.round(bias.double() / scale).clamp(-limit, limit).to(torch.int32).numpy()
    params = schema.PerChannelQuant(
        scale=[], channel_dim=0, scale_buffer_idx=g.scales(scale.float().numpy()), num_scales=scale.numel()
    )
    return g.stored(integers, tuple(bias.shape), schema.XNNDatatype.xnn_datatype_qcint32, packed_for, params)


def _packed4(values: Tensor) -> np.ndarray:
    """Pack (out, in) in [-8, 7] two to a byte, the even one in the lower half, 8 added; rows padded to whole bytes."""
    if values.ndim != 2:
        raise Unsupported("four-bit weights of a convolution")
    if values.shape[1] % 2:
        values = torch.nn.functional.pad(values, (0, 1))
    raised = (values.to(torch.int16) + 8).to(torch.uint8)
    return (raised[:, 1::2] << 4 | raised[:, ::2]).numpy()
