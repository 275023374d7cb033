"""What each PyTorch operator becomes in XNNPACK's graph. The table at the end is the list of what is supported."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
from executorch.backends.xnnpack.utils.xnnpack_constants import (
    XNN_FLAG_KEEP_DIMS,
    XNN_FLAG_TRANSPOSE_B,
    XNN_INVALID_VALUE_ID,
)
from torch import Tensor

from export.xnnpack_graph import Axes, GraphBuilder, Value, contiguous_order

NCHW_TO_NHWC = (0, 2, 3, 1)
MAX_CONCATENATED = 5  # XNNPACK's concatenations come for two to five tensors

aten = torch.ops.aten
Operand: TypeAlias = Value | Tensor | float | int


class Unsupported(Exception):
    """This use of an operator has no counterpart in XNNPACK."""


def _axis(axis: int, rank: int) -> int:
    return axis % rank


# -- element by element ---------------------------------------------------------------------------------------------


def unary(kind: type[Any]) -> Callable[..., Value]:
    def build(g: GraphBuilder, x: Value) -> Value:
        return Value(g.emit(kind, g.dims_of(x.id), input_id=x.id), x.shape, x.order)

    return build


def binary(kind: type[Any]) -> Callable[..., Value]:
    def build(g: GraphBuilder, a: Operand, b: Operand, *, alpha: float = 1) -> Value:
        if alpha != 1:
            raise Unsupported(f"alpha = {alpha}")
        return _binary(g, kind, a, b)

    return build


def _binary(g: GraphBuilder, kind: type[Any], a: Operand, b: Operand) -> Value:
    a, b = (torch.tensor(float(x)) if isinstance(x, int | float) else x for x in (a, b))
    if kind is schema.XNNMultiply and isinstance(a, Value) and a == b:
        return unary(schema.XNNSquare)(g, a)
    shape = tuple(torch.broadcast_shapes(a.shape, b.shape))
    lead = max((x for x in (a, b) if isinstance(x, Value)), key=lambda x: math.prod(x.shape))
    missing = len(shape) - len(lead.shape)
    order = (*range(missing), *(axis + missing for axis in lead.order))
    both = isinstance(a, Value) and isinstance(b, Value)
    # no need to know the logical dimensions, so no reshape
    if both and (a.shape, a.order) == (b.shape, b.order) and g.dims_of(a.id) == g.dims_of(b.id):
        output_id = g.emit(kind, g.dims_of(a.id), input1_id=a.id, input2_id=b.id)
        return Value(output_id, shape, order)
    ids = [_broadcastable(g, x, len(shape), order) for x in (a, b)]
    dims = [shape[axis] for axis in order]
    return Value(g.emit(kind, dims, input1_id=ids[0], input2_id=ids[1]), shape, order)


def _broadcastable(g: GraphBuilder, x: Value | Tensor, rank: int, order: Axes) -> int:
    """Id of an operand with its axes in the result's memory order; leading axes of size 1 are left away."""
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
    return _binary(g, schema.XNNMultiply, x, unary(schema.XNNSigmoid)(g, x))


def gelu(g: GraphBuilder, x: Value, *, approximate: str = "none") -> Value:
    if approximate != "none":
        raise Unsupported(f"approximate = {approximate!r}")
    return unary(schema.XNNGelu)(g, x)


def identity(g: GraphBuilder, x: Value, *_: Any, **__: Any) -> Value:
    return x


# -- products -------------------------------------------------------------------------------------------------------


def _innermost(g: GraphBuilder, x: Value) -> Value:
    """The value with its last logical axis last in memory, the others as they are."""
    last = len(x.shape) - 1
    x = g.ordered(x, (*(axis for axis in x.order if axis != last), last))
    if g.dims_of(x.id)[-1] != x.shape[-1]:
        x = Value(g.with_dims(x, x.dims), x.shape, x.order)
    return x


def linear(g: GraphBuilder, x: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
    if not isinstance(weight, Tensor):
        raise Unsupported("a weight that is computed from the inputs")
    x = _innermost(g, x)
    width = weight.shape[0]
    output_id = g.emit(
        schema.XNNFullyConnected,
        (*g.dims_of(x.id)[:-1], width),
        input1_id=x.id,
        filter_id=g.constant(weight, packed_for="linear"),
        bias_id=XNN_INVALID_VALUE_ID if bias is None else g.constant(bias, packed_for="linear"),
    )
    return Value(output_id, (*x.shape[:-1], width), x.order)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[-1])


def conv2d(
    g: GraphBuilder,
    x: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Value:
    if groups != 1 or isinstance(padding, str):
        raise Unsupported(f"groups = {groups}, padding = {padding!r}")
    (sh, sw), (ph, pw), (dh, dw) = _pair(stride), _pair(padding), _pair(dilation)
    n, channels, height, width = x.shape
    out_channels, _, kh, kw = weight.shape
    out_height = (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    out_width = (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    output_id = g.emit(
        schema.XNNConv2d,
        (n, out_height, out_width, out_channels),
        input1_id=g.with_dims(g.ordered(x, NCHW_TO_NHWC), (n, height, width, channels)),
        filter_id=g.constant(weight.permute(NCHW_TO_NHWC), packed_for="conv"),
        bias_id=XNN_INVALID_VALUE_ID if bias is None else g.constant(bias, packed_for="conv"),
        padding_top=ph,
        padding_bottom=ph,
        padding_left=pw,
        padding_right=pw,
        kernel_height=kh,
        kernel_width=kw,
        subsampling_height=sh,
        subsampling_width=sw,
        dilation_height=dh,
        dilation_width=dw,
        group_input_channels=channels,
        group_output_channels=out_channels,
        groups=1,
        adjustment_height=0,
        adjustment_width=0,
    )
    return Value(output_id, (n, out_channels, out_height, out_width), NCHW_TO_NHWC)


def bmm(g: GraphBuilder, a: Value, b: Value) -> Value:
    if not (isinstance(a, Value) and isinstance(b, Value)):
        raise Unsupported("a constant factor")
    n, rows, inner = a.shape
    columns = b.shape[2]
    a_id = g.with_dims(g.ordered(a, (0, 1, 2)), a.shape)
    if b.order.index(1) > b.order.index(2):  # XNNPACK packs the second factor anyway, and can read it transposed
        b_id, flags = g.with_dims(g.ordered(b, (0, 2, 1)), (n, columns, inner)), XNN_FLAG_TRANSPOSE_B
    else:
        b_id, flags = g.with_dims(g.ordered(b, (0, 1, 2)), b.shape), 0
    output_id = g.emit(
        schema.XNNBatchMatrixMultiply, (n, rows, columns), input1_id=a_id, input2_id=b_id, flags=flags
    )
    return Value(output_id, (n, rows, columns), (0, 1, 2))


# -- reductions -----------------------------------------------------------------------------------------------------


def softmax(g: GraphBuilder, x: Value, dim: int, dtype: Any = None) -> Value:
    if _axis(dim, len(x.shape)) != len(x.shape) - 1:
        raise Unsupported(f"softmax over axis {dim}, not the last")
    x = _innermost(g, x)
    return Value(g.emit(schema.XNNSoftmax, g.dims_of(x.id), input_id=x.id), x.shape, x.order)


def mean(g: GraphBuilder, x: Value, dim: Sequence[int], keepdim: bool = False, **_: Any) -> Value:
    """XNNPACK's pooling takes the mean of the two middle axes of four; any run of axes in memory can be seen so."""
    rank = len(x.shape)
    reduced = {_axis(axis, rank) for axis in dim}
    if not _adjacent(x, reduced):
        x = g.ordered(x, (*(a for a in x.order if a not in reduced), *(a for a in x.order if a in reduced)))
    positions = [i for i, axis in enumerate(x.order) if axis in reduced]
    first, last = positions[0], positions[-1]
    dims = x.dims
    outer, count, inner = math.prod(dims[:first]), math.prod(dims[first : last + 1]), math.prod(dims[last + 1 :])
    known = g.dims_of(x.id)
    as_it_is = len(known) == 4 and known[0] == outer and known[3] == inner
    input_id = x.id if as_it_is else g.with_dims(x, (outer, 1, count, inner))
    output_id = g.emit(schema.XNNGlobalAvgPooling2d, (outer, 1, 1, inner), input_id=input_id, flags=XNN_FLAG_KEEP_DIMS)
    kept = Value(output_id, tuple(1 if axis in reduced else size for axis, size in enumerate(x.shape)), x.order)
    if keepdim:
        return kept
    return g.reshape(kept, [size for axis, size in enumerate(x.shape) if axis not in reduced])


def _adjacent(x: Value, axes: set[int]) -> bool:
    """Whether these axes follow each other in memory (axes of size 1 aside); they may be in any order."""
    positions = [i for i, axis in enumerate(x.order) if axis in axes]
    between = x.order[positions[0] : positions[-1] + 1]
    return all(axis in axes or x.shape[axis] == 1 for axis in between)


def avg_pool2d(g: GraphBuilder, x: Value, kernel: int | Sequence[int], stride: Any = None, *rest: Any) -> Value:
    (kh, kw), (sh, sw) = _pair(kernel), _pair(stride or kernel)
    if rest and any(_pair(rest[0])):
        raise Unsupported(f"padding = {rest[0]}")
    n, channels, height, width = x.shape
    out_height, out_width = (height - kh) // sh + 1, (width - kw) // sw + 1
    output_id = g.emit(
        schema.XNNAvgPooling2d,
        (n, out_height, out_width, channels),
        input_id=g.with_dims(g.ordered(x, NCHW_TO_NHWC), (n, height, width, channels)),
        padding_top=0,
        padding_right=0,
        padding_bottom=0,
        padding_left=0,
        pooling_height=kh,
        pooling_width=kw,
        stride_height=sh,
        stride_width=sw,
        dilation_height=1,
        dilation_width=1,
    )
    return Value(output_id, (n, channels, out_height, out_width), NCHW_TO_NHWC)


# -- shapes ---------------------------------------------------------------------------------------------------------


def transpose(g: GraphBuilder, x: Value, first: int, second: int) -> Value:
    axes = list(range(len(x.shape)))
    first, second = _axis(first, len(axes)), _axis(second, len(axes))
    axes[first], axes[second] = axes[second], axes[first]
    return g.permute(x, axes)


def cat(g: GraphBuilder, tensors: Sequence[Value | Tensor], dim: int = 0) -> Value:
    values = [x for x in tensors if isinstance(x, Value)]
    order, shape = values[0].order, list(values[0].shape)
    axis = _axis(dim, len(shape))
    ids, sizes = [], []
    for x in tensors:
        ids.append(_broadcastable(g, x, len(shape), order) if isinstance(x, Value) else g.constant(x.permute(order)))
        sizes.append(x.shape[axis])
    while len(ids) > 1:
        parts = [slice(i, i + MAX_CONCATENATED) for i in range(0, len(ids), MAX_CONCATENATED)]
        ids = [_cat(g, ids[part], [sum(sizes[part]) if a == axis else shape[a] for a in order], order.index(axis))
               for part in parts]  # fmt: skip
        sizes = [sum(sizes[part]) for part in parts]
    shape[axis] = sizes[0]
    return Value(ids[0], tuple(shape), order)


def _cat(g: GraphBuilder, ids: list[int], dims: Sequence[int], axis: int) -> int:
    if len(ids) == 1:
        return ids[0]
    kind = getattr(schema, f"XNNConcatenate{len(ids)}")
    padded = [*ids, *[XNN_INVALID_VALUE_ID] * (MAX_CONCATENATED - len(ids))]
    return g.emit(kind, dims, axis=axis, **{f"input{i + 1}_id": value for i, value in enumerate(padded)})


def slice_(
    g: GraphBuilder, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    axis = _axis(dim, len(x.shape))
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
    output_id = g.emit(
        schema.XNNStaticSlice,
        sizes,
        input_id=g.with_dims(x, x.dims),
        num_dims=len(sizes),
        offsets=offsets,
        sizes=sizes,
    )
    return Value(output_id, (*x.shape[:axis], end - start, *x.shape[axis + 1 :]), x.order)


def select(g: GraphBuilder, x: Value, dim: int, index: int) -> Value:
    axis = _axis(dim, len(x.shape))
    index = index % x.shape[axis]
    taken = slice_(g, x, axis, index, index + 1)
    return g.reshape(taken, (*x.shape[:axis], *x.shape[axis + 1 :]))


def chunk(g: GraphBuilder, x: Value, chunks: int, dim: int = 0) -> list[Value]:
    size = -(-x.shape[_axis(dim, len(x.shape))] // chunks)
    return split(g, x, size, dim)


def split(g: GraphBuilder, x: Value, size: int | Sequence[int], dim: int = 0) -> list[Value]:
    total = x.shape[_axis(dim, len(x.shape))]
    sizes = [min(size, total - i) for i in range(0, total, size)] if isinstance(size, int) else list(size)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [slice_(g, x, dim, start, start + length) for start, length in zip(starts, sizes, strict=True)]


def unsqueeze(g: GraphBuilder, x: Value, dim: int) -> Value:
    axis = dim % (len(x.shape) + 1)
    return g.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def expand(g: GraphBuilder, x: Value, sizes: Sequence[int], **_: Any) -> Value:
    """A product with ones: XNNPACK repeats by broadcasting."""
    missing = len(sizes) - len(x.shape)
    own = (*((1,) * missing), *x.shape)
    wanted = tuple(own[i] if size == -1 else size for i, size in enumerate(sizes))
    if wanted == own:
        return g.reshape(x, wanted)
    ones = torch.ones([wanted[i] if own[i] == 1 else 1 for i in range(len(wanted))])
    return _binary(g, schema.XNNMultiply, g.reshape(x, own), ones)


def getitem(_: GraphBuilder, values: Sequence[Any], index: int) -> Any:
    return values[index]


def power(g: GraphBuilder, x: Value, exponent: float) -> Value:
    if exponent != 2:
        raise Unsupported(f"exponent {exponent}")
    return unary(schema.XNNSquare)(g, x)


def permute(g: GraphBuilder, x: Value, dims: Sequence[int]) -> Value:
    return g.permute(x, dims)


def reshape(g: GraphBuilder, x: Value, shape: Sequence[int]) -> Value:
    return g.reshape(x, shape)


def flatten(g: GraphBuilder, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    start, end = _axis(start_dim, len(x.shape)), _axis(end_dim, len(x.shape))
    return g.reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


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


def supported(target: Any) -> bool:
    """Whether this operator has a counterpart (some uses of it may still raise `Unsupported`)."""
    return target in OPERATORS or getattr(target, "__name__", "") == "getitem"


def build(g: GraphBuilder, target: Any, args: Any, kwargs: Any) -> Any:
    """Append one PyTorch operator; raises `Unsupported`."""
    if getattr(target, "__name__", "") == "getitem":
        return getitem(g, *args)
    if target not in OPERATORS:
        raise Unsupported("no counterpart in XNNPACK")
    return OPERATORS[target](g, *args, **kwargs)


__all__ = ["OPERATORS", "Unsupported", "build", "contiguous_order", "supported"]
