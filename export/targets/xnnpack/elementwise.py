"""Operators that work element by element, with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
from torch import Tensor

from export.targets.xnnpack.graph import Axes, GraphBuilder, Unsupported, Value

Operand: TypeAlias = Value | Tensor | float | int


def unary(kind: type[Any]) -> Callable[..., Value]:
    def build(g: GraphBuilder, x: Value) -> Value:
        return Value(g.emit(kind, g.dims_of(x.id), input_id=x.id), x.shape, x.order)

    return build


def binary(kind: type[Any]) -> Callable[..., Value]:
    def build(g: GraphBuilder, a: Operand, b: Operand, *, alpha: float = 1) -> Value:
        if alpha != 1:
            raise Unsupported(f"alpha = {alpha}")
        return combine(g, kind, a, b)

    return build


def combine(g: GraphBuilder, kind: type[Any], a: Operand, b: Operand) -> Value:
    """`kind` of two operands, at least one of them a `Value`, in the memory order of the larger one."""
    left = torch.tensor(float(a)) if isinstance(a, int | float) else a
    right = torch.tensor(float(b)) if isinstance(b, int | float) else b
    shape = tuple(torch.broadcast_shapes(left.shape, right.shape))
    if isinstance(left, Value) and isinstance(right, Value):
        if left == right and kind is schema.XNNMultiply:
            return unary(schema.XNNSquare)(g, left)
        dims = g.dims_of(left.id)
        if (left.shape, left.order) == (right.shape, right.order) and dims == g.dims_of(right.id):
            # the logical dimensions are not needed, so no reshape
            return Value(g.emit(kind, dims, input1_id=left.id, input2_id=right.id), shape, left.order)
    lead = max((x for x in (left, right) if isinstance(x, Value)), key=lambda x: math.prod(x.shape))
    missing = len(shape) - len(lead.shape)
    order = (*range(missing), *(axis + missing for axis in lead.order))
    ids = [broadcastable(g, x, len(shape), order) for x in (left, right)]
    dims = [shape[axis] for axis in order]
    return Value(g.emit(kind, dims, input1_id=ids[0], input2_id=ids[1]), shape, order)


def broadcastable(g: GraphBuilder, x: Value | Tensor, rank: int, order: Axes) -> int:
    """Id of an operand with its axes in the result's memory order; leading axes of size 1 are dropped."""
    missing = rank - len(x.shape)
    if isinstance(x, Tensor):
        arranged = x.reshape((1,) * missing + tuple(x.shape)).permute(order)
        while arranged.ndim > 1 and arranged.shape[0] == 1:
            arranged = arranged[0]
        return g.constant(arranged)
    own = tuple(axis - missing for axis in order if axis >= missing)
    x = g.ordered(x, own)
    sizes = {axis + missing: size for axis, size in enumerate(x.shape)}
    return g.with_dims(x, [sizes.get(axis, 1) for axis in order])


def silu(g: GraphBuilder, x: Value) -> Value:
    return combine(g, schema.XNNMultiply, x, unary(schema.XNNSigmoid)(g, x))


def gelu(g: GraphBuilder, x: Value, *, approximate: str = "none") -> Value:
    if approximate != "none":
        raise Unsupported(f"approximate = {approximate!r}")
    return unary(schema.XNNGelu)(g, x)


def identity(g: GraphBuilder, x: Value, *_: Any, **__: Any) -> Value:
    return x


def nothing(g: GraphBuilder, *_: Any, **__: Any) -> None:
    """Drop an assertion about a tensor's type, which tracing leaves before every conversion."""


def to_dtype(g: GraphBuilder, x: Value, dtype: torch.dtype, *_: Any) -> Value:
    """Return `x` for a conversion to float32: the type that a value is stored in is chosen here, not by the model."""
    if dtype != torch.float32:
        raise Unsupported(f"conversion to {dtype}")
    return x


def power(g: GraphBuilder, x: Value, exponent: float) -> Value:
    if exponent != 2:
        raise Unsupported(f"exponent {exponent}")
    return unary(schema.XNNSquare)(g, x)


def clamp(g: GraphBuilder, x: Value, min: float | None = None, max: float | None = None) -> Value:
    value = unary(schema.XNNClamp)(g, x)
    low, high = "-inf" if min is None else float(min), "inf" if max is None else float(max)
    g.nodes[-1].output_min_max = schema.OutputMinMax(low, high)
    return value


def relu(g: GraphBuilder, x: Value) -> Value:
    return clamp(g, x, min=0)
