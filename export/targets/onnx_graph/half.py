"""Half precision for some nodes of a graph and their weights; other nodes, inputs and outputs stay in float32."""

from __future__ import annotations

from collections.abc import Callable, Set

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

NO_ARITHMETIC = ("Cast", "Constant", "ConstantOfShape", "QuantizeLinear", "DequantizeLinear")


def to_half(model: ir.Model, names: Set[str]) -> None:
    """Convert the nodes called `names`; casts are put only where float32 and float16 meet, one per tensor.

    No weight is converted before it is written.
    """
    graph = model.graph
    chosen = [node for node in graph if node.name in names and node.op_type not in NO_ARITHMETIC]
    halves: dict[ir.Value, ir.Value] = {}
    for node in chosen:
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(ir.DataType.FLOAT16)  # not `value.dtype`: values may share a type object
                halves[value] = value
    converted = set(chosen)
    for node in chosen:
        for i, value in enumerate(node.inputs):
            if value is None or value.dtype != ir.DataType.FLOAT:
                continue
            if value not in halves:
                halves[value] = _half_weight(graph, value) if value.is_initializer() else _cast(graph, value, True)
            node.replace_input_with(i, halves[value])
    outputs = set(graph.outputs)
    for value in [value for value in halves if halves[value] is value]:
        uses = [use for use in value.uses() if use.node not in converted and use.node.op_type != "Cast"]
        if not uses and value not in outputs:
            continue
        name = value.name
        if value in outputs:
            value.name = f"{name}_half"
        full = _cast(graph, value, False)
        for use in uses:
            use.node.replace_input_with(use.idx, full)
        if value in outputs:
            full.name = name
            graph.outputs[list(graph.outputs).index(value)] = full
    RemoveUnusedNodesPass()(model)


def _half_weight(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    source = weight.const_value
    assert source is not None
    name, shape = f"{weight.name}_half", ir.Shape(source.shape.numpy())
    lazy = ir.LazyTensor(_rounded(source, name), dtype=ir.DataType.FLOAT16, shape=shape, name=name)
    half = ir.Value(name=name, shape=shape, type=ir.TensorType(ir.DataType.FLOAT16), const_value=lazy)
    graph.register_initializer(half)
    return half


def _rounded(source: ir.TensorProtocol, name: str) -> Callable[[], ir.Tensor]:
    return lambda: ir.Tensor(source.numpy().astype(np.float16), name=name)


def _cast(graph: ir.Graph, value: ir.Value, half: bool) -> ir.Value:
    """Return the value in the other precision, from a node right behind the one that makes it."""
    dtype = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT
    name = f"{value.name}_to_{'float16' if half else 'float32'}"
    node = ir.node("Cast", [value], attributes={"to": int(dtype)}, name=name)
    output = node.outputs[0]
    output.name, output.shape, output.type = name, value.shape, ir.TensorType(dtype)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return output
