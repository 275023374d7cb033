"""XNNPACK's own graph, built operator by operator, with every transposition put off until an operator needs it.

PyTorch's graph of this UNet is full of permutations: convolutions want channels after the batch, transformers want them
last, temporal layers want frames in the middle. XNNPACK's convolutions want channels last in memory, so most of those
permutations are no work at all when the memory order is tracked apart from the logical one: a `Value` is a view
(logical shape and the order of its axes in memory) of an XNNPACK value, and `permute` and `reshape` only change the view
wherever that is possible.

The classes of the serialized graph and its writer are ExecuTorch's (`executorch.backends.xnnpack.serialization`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import (
    CONSTANT_TENSOR_ALIGNMENT,
    serialize_xnnpack_binary,
)
from executorch.backends.xnnpack.utils.xnnpack_constants import (
    UINT64_MAX,
    XNN_INVALID_VALUE_ID,
    XNN_MAX_TENSOR_DIMS,
    XNN_VALUE_FLAG_EXTERNAL_INPUT,
    XNN_VALUE_FLAG_EXTERNAL_OUTPUT,
)
from executorch.exir._serialize._cord import FileBackedData
from executorch.exir._serialize._named_data_store import NamedDataStore
from torch import Tensor

from export.quantization.weights import WeightFormat

Axes = tuple[int, ...]
SPOOLED_BYTES = 2**18
FP32, FP16 = schema.XNNDatatype.xnn_datatype_fp32, schema.XNNDatatype.xnn_datatype_fp16


@dataclass(frozen=True)
class Value:
    """A view of an XNNPACK value.

    Attributes:
        id: id of the XNNPACK value.
        shape: the logical shape.
        order: the logical axes from the outermost to the innermost in memory.
    """

    id: int
    shape: Axes
    order: Axes

    @property
    def dims(self) -> Axes:
        """Sizes in memory order."""
        return tuple(self.shape[axis] for axis in self.order)


class Unsupported(Exception):
    """A use of an operator that has no counterpart in XNNPACK."""


def contiguous_order(rank: int) -> Axes:
    return tuple(range(rank))


def _without_units(order: Axes, shape: Axes) -> Axes:
    """The axes that matter for the order in memory: all but those of size 1, which may stand anywhere."""
    return tuple(axis for axis in order if shape[axis] != 1)


def _blocks(old: Axes, new: Axes) -> list[tuple[list[int], list[int]]]:
    """Cut a reshape into the smallest runs of axes with equal products: (old axes, new axes) per run."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        left, right = [i], [j]
        a, b = old[i], new[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                left.append(i)
                a, i = a * old[i], i + 1
            else:
                right.append(j)
                b, j = b * new[j], j + 1
        blocks.append((left, right))
    blocks.append((list(range(i, len(old))), list(range(j, len(new)))))  # axes of size 1 that are left over
    return blocks


class GraphBuilder:
    """An XNNPACK graph under construction. Operators on `Value`s are in the other files of this folder."""

    def __init__(self, scratch: Path | None = None) -> None:
        """`scratch`: a folder for large constants until they are written; None keeps them in memory."""
        self.scratch = scratch
        self.float_type = FP32
        """Type that operators compute in from here on: `FP32` or `FP16`."""
        self.weight_format: WeightFormat | None = None
        """Storage of layers' float weights from here on, with inputs quantized at run time; None: as they are."""
        self.nodes: list[schema.XNode] = []
        self.labels: list[str] = []
        """Path in the model of the origin of each of `nodes`, as far as known (`label`); "" for the model itself."""
        self.values: list[schema.XNNTensorValue] = []
        self.quantization: dict[int, schema.XNNQuantParams] = {}
        self.data = schema_constants()
        self.store = NamedDataStore()
        self.input_ids: list[int] = []
        """The program's inputs, then `unpacked`."""
        self.output_ids: list[int] = []
        self.unpacked: list[np.ndarray] = []
        """Constants that are handed to the delegate at every call, as its last inputs (`constant`)."""
        self._constants: dict[tuple[str, Axes, int], int] = {}
        self._data_index: dict[str, int] = {}
        self._derived: dict[tuple[Any, ...], int] = {}

    # -- values -----------------------------------------------------------------------------------------------------

    def _new_value(
        self,
        dims: Axes,
        datatype: schema.XNNDatatype,
        quantization: schema.XNNQuantParams | None = None,
        buffer: int = 0,
        external_id: int = XNN_INVALID_VALUE_ID,
        flags: int = 0,
    ) -> int:
        if len(dims) > XNN_MAX_TENSOR_DIMS:
            raise ValueError(f"XNNPACK tensors have at most {XNN_MAX_TENSOR_DIMS} dimensions, not {dims}")
        value_id = len(self.values)
        self.values.append(
            schema.XNNTensorValue(
                datatype=datatype,
                num_dims=len(dims),
                dims=list(dims),
                constant_buffer_idx=buffer,
                external_id=external_id,
                flags=flags,
                id_out=value_id,
            )
        )
        if quantization is not None:
            self.quantization[value_id] = quantization
        return value_id

    def type_of(self, value: Value) -> schema.XNNDatatype:
        """The type that its numbers are stored in."""
        return self.values[value.id].datatype

    def dims_of(self, value_id: int) -> Axes:
        """The dimensions that XNNPACK knows for a value."""
        return tuple(self.values[value_id].dims)

    def input(self, shape: Sequence[int]) -> Value:
        """Add the next input of the program."""
        position = len(self.input_ids)
        value_id = self._new_value(tuple(shape), FP32, external_id=position, flags=XNN_VALUE_FLAG_EXTERNAL_INPUT)
        self.input_ids.append(value_id)
        return Value(value_id, tuple(shape), contiguous_order(len(shape)))

    def output(self, value: Value) -> None:
        """Make `value` the next output of the program, in float32; all inputs must be there already."""
        value = self.ordered(self.as_type(value, FP32), contiguous_order(len(value.shape)))
        value_id = self.with_dims(value, value.shape)
        record = self.values[value_id]
        if record.external_id != XNN_INVALID_VALUE_ID or record.constant_buffer_idx:
            value_id = self.moved(schema.XNNCopy, value.shape, value_id)  # an input or constant passed through
            record = self.values[value_id]
        record.external_id = len(self.input_ids) + len(self.output_ids)
        record.flags |= XNN_VALUE_FLAG_EXTERNAL_OUTPUT
        self.output_ids.append(value_id)

    def constant(self, tensor: Tensor) -> int:
        """Return the id of a constant operand of an operator without weights, of the tensor's shape and `float_type`.

        Such an operator reads its operands at every run, whereas ExecuTorch frees the delegate's own constants once
        XNNPACK has packed them: with its weight cache always, without it in some versions. So the constant belongs to
        the program, which lives as long as it runs, and the delegate takes it as one more input.
        """
        array = self._array(tensor, self.float_type)
        dims = tuple(tensor.shape) or (1,)
        known = (hashlib.sha256(array.tobytes()).hexdigest(), dims, int(self.float_type))
        if known not in self._constants:
            if self.output_ids:
                raise ValueError(
                    "a constant after the first output: its position among the inputs would be the output's"
                )
            flags, position = XNN_VALUE_FLAG_EXTERNAL_INPUT, len(self.input_ids)
            self._constants[known] = self._new_value(dims, self.float_type, external_id=position, flags=flags)
            self.input_ids.append(self._constants[known])
            self.unpacked.append(array.reshape(dims))
        return self._constants[known]

    def weight(self, tensor: Tensor, packed_for: str, keep_float32: bool = False) -> int:
        """Return the id of a layer's weight or bias, of the tensor's shape and of `float_type`.

        Args:
            packed_for: kind of the layer. XNNPACK rearranges weights when the program is loaded, and ExecuTorch keeps
                only the rearranged ones, by name: no other kind of operator, nor one of another shape, may find its
                weights under the same name.
            keep_float32: store float32 whatever `float_type` is (biases of quantized layers).
        """
        datatype = FP32 if keep_float32 else self.float_type
        return self.stored(self._array(tensor, datatype), tuple(tensor.shape), datatype, packed_for)

    @staticmethod
    def _array(tensor: Tensor, datatype: schema.XNNDatatype) -> np.ndarray:
        dtype = torch.float16 if datatype == FP16 else torch.float32
        return np.ascontiguousarray(tensor.detach().to(dtype).cpu().numpy())

    def stored(
        self,
        array: np.ndarray,
        dims: Axes,
        datatype: schema.XNNDatatype,
        packed_for: str,
        quantization: schema.XNNQuantParams | None = None,
    ) -> int:
        """Return the id of XNNPACK's value of a weight's bytes; equal bytes for equal use are stored once."""
        content = np.ascontiguousarray(array).tobytes()
        key = f"{packed_for}-{'x'.join(map(str, dims))}-{int(datatype)}-{hashlib.sha256(content).hexdigest()}"
        if quantization is not None:  # the scales are in a buffer of their own: the same bytes may have other scales
            key = f"{key}-{hashlib.sha256(repr(quantization).encode()).hexdigest()[:16]}"
        known = (key, dims, int(datatype))
        if known not in self._constants:
            buffer = self._add_data(key, content)
            self._constants[known] = self._new_value(dims, datatype, quantization, buffer=buffer)
        return self._constants[known]

    def scales(self, array: np.ndarray) -> int:
        """Index of a buffer of scales, as the parameters of a quantized constant name it."""
        content = np.ascontiguousarray(array).tobytes()
        return self._add_data("scale_" + hashlib.sha256(content).hexdigest(), content)

    def _add_data(self, key: str, content: bytes) -> int:
        if key not in self._data_index:
            self.data.append(schema.ConstantDataOffset(offset=UINT64_MAX, size=len(content), named_key=key))
            self.store.add_named_data(key, self._kept(content), alignment=CONSTANT_TENSOR_ALIGNMENT)
            self._data_index[key] = len(self.data) - 1
        return self._data_index[key]

    def _kept(self, content: bytes) -> bytes | FileBackedData:
        """Store large constants in files: of a full-size model's gigabytes only one constant is in memory at a time."""
        if self.scratch is None or len(content) < SPOOLED_BYTES:
            return content
        file = self.scratch / f"{len(self.data)}.constant"
        file.write_bytes(content)
        return FileBackedData(str(file), sha256=hashlib.sha256(content).digest())

    def emit(
        self,
        kind: type[Any],
        dims: Sequence[int],
        *,
        datatype: schema.XNNDatatype | None = None,
        quantization: schema.XNNQuantParams | None = None,
        **fields: Any,
    ) -> int:
        """Append an operator with one output of `dims`, of `float_type` unless `datatype` is given; return its id."""
        output_id = self._new_value(tuple(dims), self.float_type if datatype is None else datatype, quantization)
        fields = {"flags": 0, **fields}
        self.nodes.append(schema.XNode(xnode_union=kind(output_id=output_id, **fields), debug_handle=len(self.nodes)))
        return output_id

    def label(self, path: str) -> None:
        """Record that the operators appended since the last call come from the module at `path`."""
        self.labels += [path] * (len(self.nodes) - len(self.labels))

    def moved(self, kind: type[Any], dims: Sequence[int], input_id: int, **fields: Any) -> int:
        """`emit` an operator that only moves numbers; the output has its input's type."""
        datatype, quantization = self.values[input_id].datatype, self.quantization.get(input_id)
        return self.emit(kind, dims, datatype=datatype, quantization=quantization, input_id=input_id, **fields)

    def as_type(
        self, value: Value, datatype: schema.XNNDatatype, quantization: schema.XNNQuantParams | None = None
    ) -> Value:
        """Return the same numbers stored as another type, rounded if need be; converted once for all users."""
        if self.type_of(value) == datatype and self.quantization.get(value.id) == quantization:
            return value
        key = ("convert", value.id, int(datatype), repr(quantization))
        if key not in self._derived:
            self._derived[key] = self.emit(
                schema.XNNConvert,
                self.dims_of(value.id),
                datatype=datatype,
                quantization=quantization,
                input_id=value.id,
            )
        return replace(value, id=self._derived[key])

    def computable(self, value: Value) -> Value:
        """Return the value in `float_type`."""
        return self.as_type(value, self.float_type)

    # -- views ------------------------------------------------------------------------------------------------------

    def with_dims(self, value: Value, dims: Sequence[int]) -> int:
        """Id of the value's memory with these dimensions: its own if it has them, else that of a reshape."""
        dims = tuple(dims)
        if self.dims_of(value.id) == dims:
            return value.id
        key = ("reshape", value.id, dims)
        if key not in self._derived:
            self._derived[key] = self.moved(
                schema.XNNStaticReshape, dims, value.id, num_dims=len(dims), new_shape=list(dims)
            )
        return self._derived[key]

    def ordered(self, value: Value, order: Axes) -> Value:
        """The same logical value with its axes in this memory order: a view where only axes of size 1 move."""
        if _without_units(value.order, value.shape) == _without_units(order, value.shape):
            return replace(value, order=order)
        key = ("transpose", value.id, value.shape, value.order, order)
        if key not in self._derived:
            perm = [value.order.index(axis) for axis in order]
            self._derived[key] = self.moved(
                schema.XNNStaticTranspose,
                [value.shape[axis] for axis in order],
                self.with_dims(value, value.dims),
                num_dims=len(perm),
                perm=perm,
            )
        return Value(self._derived[key], value.shape, order)

    def permute(self, value: Value, axes: Sequence[int]) -> Value:
        """Logical permutation: always a view."""
        axes = tuple(axis % len(value.shape) for axis in axes)
        shape = tuple(value.shape[axis] for axis in axes)
        return Value(value.id, shape, tuple(axes.index(axis) for axis in value.order))

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """Logical reshape: a view if the axes that are merged or split lie together in memory, else after a copy."""
        shape = _resolve(shape, value.shape)
        blocks = _blocks(value.shape, shape)
        order = _order_after_reshape(value, blocks)
        if order is None:
            value = self.ordered(value, contiguous_order(len(value.shape)))
            order = contiguous_order(len(shape))
        return Value(value.id, shape, order)

    # -- the result -------------------------------------------------------------------------------------------------

    def serialize(self) -> bytes:
        """The delegate's payload; its constants are in `store`."""
        graph = schema.XNNGraph(
            version="0",
            xnodes=self.nodes,
            xvalues=[self._with_quantization(value) for value in self.values],
            num_externs=len(self.input_ids) + len(self.output_ids),
            input_ids=self.input_ids,
            output_ids=self.output_ids,
            constant_data=self.data,
        )
        return serialize_xnnpack_binary(graph, bytearray())

    def _with_quantization(self, value: schema.XNNTensorValue) -> schema.XValue:
        quantization = self.quantization.get(value.id_out)
        if quantization is None:
            return schema.XValue(xvalue_union=value)
        return schema.XValue(xvalue_union=schema.XNNQuantizedTensorValue(value, quantization))


def schema_constants() -> list[schema.ConstantDataOffset]:
    """The table of constants of a new graph: index 0 means "no constant"."""
    return [schema.ConstantDataOffset(0, 0)]


def _resolve(shape: Sequence[int], old: Axes) -> Axes:
    """Return a shape with its -1, if any, replaced by what is left of the number of elements."""
    if -1 not in shape:
        return tuple(shape)
    known = math.prod(size for size in shape if size != -1)
    return tuple(math.prod(old) // known if size == -1 else size for size in shape)


def _order_after_reshape(value: Value, blocks: list[tuple[list[int], list[int]]]) -> Axes | None:
    """Memory order of the new axes if each block is one piece of memory, in order; None if one is not."""
    order: list[int] = []
    remaining = list(_without_units(value.order, value.shape))
    block_of = {axis: block for block in blocks for axis in block[0]}
    while remaining:
        old_axes, new_axes = block_of[remaining[0]]
        run = [axis for axis in old_axes if value.shape[axis] != 1]
        if remaining[: len(run)] != run:
            return None
        remaining = remaining[len(run) :]
        order += new_axes
    placed = set(order)
    units = [axis for _, new_axes in blocks for axis in new_axes if axis not in placed]
    return tuple(units + order)
