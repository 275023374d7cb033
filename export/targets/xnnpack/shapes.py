"""Operators that move or choose elements: views where memory allows, else transpositions, slices, concatenations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
from executorch.backends.xnnpack.utils.xnnpack_constants import XNN_INVALID_VALUE_ID
from torch import Tensor

from export.targets.xnnpack.elementwise import broadcastable, combine
from export.targets.xnnpack.graph import GraphBuilder, Unsupported, Value

MAX_CONCATENATED = 5  # XNNPACK's concatenations take two to five tensors


def transpose(g: GraphBuilder, x: Value, first: int, second: int) -> Value:
    axes = list(range(len(x.shape)))
    first, second = first % len(axes), second % len(axes)
    axes[first], axes[second] = axes[second], axes[first]
    return g.permute(x, axes)


def cat(g: GraphBuilder, tensors: Sequence[Value | Tensor], dim: int = 0) -> Value:
    order = next(x.order for x in tensors if isinstance(x, Value))
    shape = list(tensors[0].shape)
    axis = dim % len(shape)
    shape[axis] = sum(x.shape[axis] for x in tensors)
    pieces = [
        (
            broadcastable(g, x, len(shape), order) if isinstance(x, Value) else g.constant(x.permute(order)),
            x.shape[axis],
        )
        for x in tensors
    ]
    while len(pieces) > 1:
        groups = [pieces[i : i + MAX_CONCATENATED] for i in range(0, len(pieces), MAX_CONCATENATED)]
        pieces = []
        for group in groups:
            size = sum(size for _, size in group)
            dims = [size if a == axis else shape[a] for a in order]
            pieces.append((_concatenate(g, [value_id for value_id, _ in group], dims, order.index(axis)), size))
    return Value(pieces[0][0], tuple(shape), order)


def _concatenate(g: GraphBuilder, ids: list[int], dims: Sequence[int], axis: int) -> int:
    if len(ids) == 1:
        return ids[0]
    kind = getattr(schema, f"XNNConcatenate{len(ids)}")
    padded = [*ids, *[XNN_INVALID_VALUE_ID] * (MAX_CONCATENATED - len(ids))]
    inputs: dict[str, Any] = {f"input{i + 1}_id": value_id for i, value_id in enumerate(padded)}
    return g.emit(kind, dims, axis=axis, **inputs)


def slice_(
    g: GraphBuilder, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    axis = dim % len(x.shape)
    start, end, step = slice(start, end, step).indices(x.shape[axis])
    if step != 1:  # every step-th: the first of each group of `step`
        if start != 0 or end != x.shape[axis] or end % step:
            raise Unsupported(f"slice {start}:{end}:{step} of an axis of size {x.shape[axis]}")
        grouped = g.reshape(x, (*x.shape[:axis], end // step, step, *x.shape[axis + 1 :]))
        return select(g, grouped, axis + 1, 0)
    if end - start == x.shape[axis]:
        return x
    position = x.order.index(axis)
    offsets, sizes = [0] * len(x.shape), list(x.dims)
    offsets[position], sizes[position] = start, end - start
    output_id = g.moved(
        schema.XNNStaticSlice,
        sizes,
        g.with_dims(x, x.dims),
        num_dims=len(sizes),
        offsets=offsets,
        sizes=sizes,
    )
    return Value(output_id, (*x.shape[:axis], end - start, *x.shape[axis + 1 :]), x.order)


def select(g: GraphBuilder, x: Value, dim: int, index: int) -> Value:
    axis = dim % len(x.shape)
    index = index % x.shape[axis]
    taken = slice_(g, x, axis, index, index + 1)
    return g.reshape(taken, (*x.shape[:axis], *x.shape[axis + 1 :]))


def chunk(g: GraphBuilder, x: Value, chunks: int, dim: int = 0) -> list[Value]:
    size = -(-x.shape[dim % len(x.shape)] // chunks)
    return split(g, x, size, dim)


def split(g: GraphBuilder, x: Value, size: int | Sequence[int], dim: int = 0) -> list[Value]:
    total = x.shape[dim % len(x.shape)]
    sizes = [min(size, total - i) for i in range(0, total, size)] if isinstance(size, int) else list(size)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [slice_(g, x, dim, start, start + length) for start, length in zip(starts, sizes, strict=True)]


def unsqueeze(g: GraphBuilder, x: Value, dim: int) -> Value:
    axis = dim % (len(x.shape) + 1)
    return g.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def expand(g: GraphBuilder, x: Value, sizes: Sequence[int], **_: Any) -> Value:
    """Expand by a product with ones: XNNPACK repeats by broadcasting."""
    missing = len(sizes) - len(x.shape)
    own = (*((1,) * missing), *x.shape)
    wanted = tuple(own[i] if size == -1 else size for i, size in enumerate(sizes))
    if wanted == own:
        return g.reshape(x, wanted)
    ones = torch.ones([wanted[i] if own[i] == 1 else 1 for i in range(len(wanted))])
    return combine(g, schema.XNNMultiply, g.reshape(x, own), ones)


def permute(g: GraphBuilder, x: Value, dims: Sequence[int]) -> Value:
    return g.permute(x, dims)


def reshape(g: GraphBuilder, x: Value, shape: Sequence[int]) -> Value:
    return g.reshape(x, shape)


def flatten(g: GraphBuilder, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    start, end = start_dim % len(x.shape), end_dim % len(x.shape)
    return g.reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def pad(g: GraphBuilder, x: Value, amounts: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    """Pad by `amounts`, in PyTorch's order: before and after the last axis, then the one before it, ..."""
    if mode != "constant" or min(amounts) < 0:
        raise Unsupported(f"mode = {mode!r}, amounts {list(amounts)}")
    last = len(x.shape) - 1
    before, after = [0] * len(x.shape), [0] * len(x.shape)
    for i in range(len(amounts) // 2):
        before[last - i], after[last - i] = amounts[2 * i], amounts[2 * i + 1]
    shape = tuple(before[axis] + size + after[axis] for axis, size in enumerate(x.shape))
    output_id = g.emit(
        schema.XNNStaticConstantPad,
        [shape[axis] for axis in x.order],
        input_id=g.with_dims(x, x.dims),
        pre_paddings=[before[axis] for axis in x.order],
        post_paddings=[after[axis] for axis in x.order],
        padding_value=0.0 if value is None else float(value),
    )
    return Value(output_id, shape, x.order)
