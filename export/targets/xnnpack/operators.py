"""The table of supported PyTorch operators, each with the function that appends its counterpart to XNNPACK's graph."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
from torch.utils import _pytree as pytree

from export.quantization.weights import QuantizedWeight
from export.targets.xnnpack.elementwise import (
    binary,
    clamp,
    gelu,
    identity,
    nothing,
    power,
    relu,
    silu,
    to_dtype,
    unary,
)
from export.targets.xnnpack.graph import FP32, GraphBuilder, Unsupported, Value
from export.targets.xnnpack.layers import avg_pool2d, bmm, conv2d, linear, mean, softmax
from export.targets.xnnpack.quantized import dequantize, quantize
from export.targets.xnnpack.shapes import (
    cat,
    chunk,
    expand,
    flatten,
    pad,
    permute,
    reshape,
    select,
    slice_,
    split,
    transpose,
    unsqueeze,
)

aten = torch.ops.aten

OPERATORS: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: binary(schema.XNNAdd),
    aten.sub.Tensor: binary(schema.XNNSubtract),
    aten.mul.Tensor: binary(schema.XNNMultiply),
    aten.div.Tensor: binary(schema.XNNDiv),
    aten.pow.Tensor_Scalar: power,
    aten.sigmoid.default: unary(schema.XNNSigmoid),
    aten.tanh.default: unary(schema.XNNTanh),
    aten.rsqrt.default: unary(schema.XNNReciprocalSquareRoot),
    aten.sqrt.default: unary(schema.XNNSquareRoot),
    aten.exp.default: unary(schema.XNNExp),
    aten.sin.default: unary(schema.XNNSin),
    aten.cos.default: unary(schema.XNNCos),
    aten.neg.default: unary(schema.XNNNegate),
    aten.silu.default: silu,
    aten.gelu.default: gelu,
    aten.relu.default: relu,
    aten.clamp.default: clamp,
    aten.linear.default: linear,
    aten.conv2d.default: conv2d,
    aten.bmm.default: bmm,
    aten.softmax.int: softmax,
    aten.mean.dim: mean,
    aten.avg_pool2d.default: avg_pool2d,
    aten.cat.default: cat,
    aten.pad.default: pad,
    aten.slice.Tensor: slice_,
    aten.select.int: select,
    aten.chunk.default: chunk,
    aten.split.Tensor: split,
    aten.split_with_sizes.default: split,
    aten.unsqueeze.default: unsqueeze,
    aten.expand.default: expand,
    aten.permute.default: permute,
    aten.transpose.int: transpose,
    aten.view.default: reshape,
    aten.reshape.default: reshape,
    aten.flatten.using_ints: flatten,
    aten.to.dtype: to_dtype,
    aten._assert_tensor_metadata.default: nothing,
    aten.contiguous.default: identity,
    aten.clone.default: identity,
    aten.detach.default: identity,
    aten.alias.default: identity,
}


LAYERS = {aten.linear.default, aten.conv2d.default}
"""Operators that take quantized inputs and weights."""

MOVES = {
    aten.slice.Tensor,
    aten.select.int,
    aten.chunk.default,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unsqueeze.default,
    aten.permute.default,
    aten.transpose.int,
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.to.dtype,
    aten._assert_tensor_metadata.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
}
"""Operators that leave numbers as they are stored."""

IN_FLOAT32 = {aten.gelu.default, aten.sin.default, aten.cos.default}
"""Operators missing in half precision, or useless in it: a phase of 127 rad has steps of 1/16 there."""


QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"
"""An operator that PT2E puts around layers, by name: PyTorch registers these only when they are first used."""
PT2E: dict[str, Callable[..., Any]] = {
    QUANTIZE: quantize,
    "quantized_decomposed.dequantize_per_tensor.default": dequantize,
}
DEQUANTIZE_WEIGHT = "quantized_decomposed.dequantize_per_channel.default"


def constant(target: Any, args: Any, kwargs: Any) -> Any:
    """Compute an operator that has constant arguments only; integer weights stay integers."""
    if str(target) == DEQUANTIZE_WEIGHT:
        values, scales, _, axis = args[:4]
        if axis == 0 and values.dtype == torch.int8:
            return QuantizedWeight(values, scales.float(), 8)
    args, kwargs = pytree.tree_map(lambda a: a.dequantized() if isinstance(a, QuantizedWeight) else a, (args, kwargs))
    return target(*args, **kwargs)


def build(g: GraphBuilder, target: Any, args: Any, kwargs: Any) -> Any:
    """Append one PyTorch operator; raises `Unsupported`."""
    if target is operator.getitem:
        return args[0][args[1]]
    if str(target) in PT2E:
        return PT2E[str(target)](g, *args, **kwargs)
    if target not in OPERATORS:
        raise Unsupported("no counterpart in XNNPACK")
    if target in LAYERS or target in MOVES:
        return OPERATORS[target](g, *args, **kwargs)
    chosen = g.float_type
    g.float_type = FP32 if target in IN_FLOAT32 or _holds_float32(g, target, args) else chosen
    try:
        args, kwargs = pytree.tree_map(lambda a: g.computable(a) if isinstance(a, Value) else a, (args, kwargs))
        return OPERATORS[target](g, *args, **kwargs)
    finally:
        g.float_type = chosen


def _holds_float32(g: GraphBuilder, target: Any, args: Any) -> bool:
    """True for a concatenation with an operand in float32: it only moves numbers, and must not round them."""
    return target is aten.cat.default and any(isinstance(part, Value) and g.type_of(part) == FP32 for part in args[0])
