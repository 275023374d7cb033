"""The table of supported PyTorch operators: each with the function that appends its counterpart to XNNPACK's graph."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

from export.xnnpack.elementwise import binary, gelu, identity, power, silu, unary
from export.xnnpack.graph import GraphBuilder, Unsupported
from export.xnnpack.layers import avg_pool2d, bmm, conv2d, linear, mean, softmax
from export.xnnpack.shapes import (
    cat,
    chunk,
    expand,
    flatten,
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
    aten.neg.default: unary(schema.XNNNegate),
    aten.silu.default: silu,
    aten.gelu.default: gelu,
    aten.linear.default: linear,
    aten.conv2d.default: conv2d,
    aten.bmm.default: bmm,
    aten.softmax.int: softmax,
    aten.mean.dim: mean,
    aten.avg_pool2d.default: avg_pool2d,
    aten.cat.default: cat,
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
    aten.contiguous.default: identity,
    aten.clone.default: identity,
    aten.detach.default: identity,
    aten.alias.default: identity,
}


def build(g: GraphBuilder, target: Any, args: Any, kwargs: Any) -> Any:
    """Append one PyTorch operator; raises `Unsupported`."""
    if target is operator.getitem:
        return args[0][args[1]]
    if target not in OPERATORS:
        raise Unsupported("no counterpart in XNNPACK")
    return OPERATORS[target](g, *args, **kwargs)
