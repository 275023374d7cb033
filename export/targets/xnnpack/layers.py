"""Layers and reductions: convolutions, linear layers, products, softmax, means and pooling."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
from executorch.backends.xnnpack.utils.xnnpack_constants import (
    XNN_FLAG_KEEP_DIMS,
    XNN_FLAG_TRANSPOSE_B,
    XNN_INVALID_VALUE_ID,
)
from torch import Tensor

from export.quantization.weights import QuantizedWeight, quantize_weight
from export.targets.xnnpack.graph import Axes, GraphBuilder, Unsupported, Value
from export.targets.xnnpack.quantized import FixedRange, bias_value, is_static, layer_input, layer_output, weight_value

NCHW_TO_NHWC = (0, 2, 3, 1)


def _innermost(g: GraphBuilder, x: Value) -> Value:
    """The value with its last logical axis last in memory, the others as they are."""
    last = len(x.shape) - 1
    x = g.ordered(x, (*(axis for axis in x.order if axis != last), last))
    if g.dims_of(x.id)[-1] != x.shape[-1]:
        x = Value(g.with_dims(x, x.dims), x.shape, x.order)
    return x


def linear(
    g: GraphBuilder,
    x: Value,
    weight: Tensor | QuantizedWeight,
    bias: Tensor | None = None,
    output: FixedRange | None = None,
) -> Value:
    x = _innermost(g, x)
    arranged = _arrange(g, x, weight, bias, (0, 1), "linear", nonbatch_dims=1, output=output)
    width = (weight.values if isinstance(weight, QuantizedWeight) else weight).shape[0]
    output_id = g.emit(
        schema.XNNFullyConnected,
        (*g.dims_of(arranged.x.id)[:-1], width),
        input1_id=arranged.x.id,
        filter_id=arranged.filter_id,
        bias_id=arranged.bias_id,
        **arranged.result,
    )
    return Value(output_id, (*x.shape[:-1], width), x.order)


@dataclass(frozen=True)
class _Arranged:
    """A layer's operands in the types that it computes in, and the type of its result."""

    x: Value
    filter_id: int
    bias_id: int
    result: dict[str, Any]


def _arrange(
    g: GraphBuilder,
    x: Value,
    weight: Tensor | QuantizedWeight,
    bias: Tensor | None,
    order: Axes,
    kind: str,
    nonbatch_dims: int,
    output: FixedRange | None,
) -> _Arranged:
    """Choose between floating point and integers, by the weights that the layer came with or those it is to get."""
    if isinstance(weight, Tensor) and g.weight_format is not None:
        weight = quantize_weight(weight, g.weight_format)
    if isinstance(weight, QuantizedWeight):
        x = layer_input(g, x, nonbatch_dims)
        use = f"{kind}-{weight.bits}"
        if is_static(g, x):  # both ranges go into the packed weights, so equal weights of other ranges are others
            ranges = repr((g.quantization[x.id], output))
            use += f"-{hashlib.sha256(ranges.encode()).hexdigest()[:16]}"
        bias_id = XNN_INVALID_VALUE_ID if bias is None else bias_value(g, bias, weight, x, use)
        filter_id = weight_value(g, weight, order, use)
        return _Arranged(x, filter_id, bias_id, layer_output(is_static(g, x), output))
    if not isinstance(weight, Tensor):
        raise Unsupported("a weight that is computed from the inputs")
    bias_id = XNN_INVALID_VALUE_ID if bias is None else g.weight(bias, kind)
    return _Arranged(g.computable(x), g.weight(weight.permute(order), kind), bias_id, {})


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[-1])


def conv2d(
    g: GraphBuilder,
    x: Value,
    weight: Tensor | QuantizedWeight,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    output: FixedRange | None = None,
) -> Value:
    if groups != 1 or isinstance(padding, str):
        raise Unsupported(f"groups = {groups}, padding = {padding!r}")
    (sh, sw), (ph, pw), (dh, dw) = _pair(stride), _pair(padding), _pair(dilation)
    n, channels, height, width = x.shape
    out_channels, _, kh, kw = (weight.values if isinstance(weight, QuantizedWeight) else weight).shape
    out_height = (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    out_width = (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    seen = g.with_dims(g.ordered(x, NCHW_TO_NHWC), (n, height, width, channels))
    x = Value(seen, x.shape, NCHW_TO_NHWC)
    # how weights are packed depends on the geometry too: a 1x1 kernel may become a product, or not
    kind = "conv-" + "-".join(f"{a}x{b}" for a, b in ((sh, sw), (ph, pw), (dh, dw)))
    arranged = _arrange(g, x, weight, bias, NCHW_TO_NHWC, kind, nonbatch_dims=3, output=output)
    output_id = g.emit(
        schema.XNNConv2d,
        (n, out_height, out_width, out_channels),
        **arranged.result,
        input1_id=arranged.x.id,
        filter_id=arranged.filter_id,
        bias_id=arranged.bias_id,
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
    output_id = g.emit(schema.XNNBatchMatrixMultiply, (n, rows, columns), input1_id=a_id, input2_id=b_id, flags=flags)
    return Value(output_id, (n, rows, columns), (0, 1, 2))


def softmax(g: GraphBuilder, x: Value, dim: int, dtype: Any = None) -> Value:
    if dim not in (-1, len(x.shape) - 1):
        raise Unsupported(f"softmax over axis {dim}, not the last")
    x = _innermost(g, x)
    return Value(g.emit(schema.XNNSoftmax, g.dims_of(x.id), input_id=x.id), x.shape, x.order)


def mean(g: GraphBuilder, x: Value, dim: Sequence[int], keepdim: bool = False, **_: Any) -> Value:
    """Take the mean by XNNPACK's pooling over the two middle axes of four: any run of axes can be seen so."""
    rank = len(x.shape)
    reduced = {axis % rank for axis in dim}
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
    """True if these axes follow each other in memory, in any order (axes of size 1 aside)."""
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
