"""Operators and floating-point operations of an exported graph, in any dialect.

The convention is that of `mobilevd/model/flops.py`: convolutions, linear layers and the products of attention count,
two for each multiply-accumulate. PyTorch's own counter knows nothing of composite operators (and counts SDPA on CPU
tensors as 0).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

Shape = Sequence[int]


@dataclass(frozen=True)
class OperatorCounts:
    """The work that a program does anew at every call: `operators` calls, of which the products cost `flops`."""

    operators: int
    flops: int


def operator_name(node: fx.Node) -> str:
    """ "bmm" for `aten.bmm.default` of any dialect; "" for a node that is no operator."""
    parts = overload_name(node).split(".")
    return parts[1] if len(parts) > 1 and node.op == "call_function" else ""


def overload_name(node: fx.Node) -> str:
    """The name with overload, `aten.bmm.default`, even if the node has ExecuTorch's version of the operator."""
    target: Any = node.target
    plain = isinstance(target, OpOverload) or not hasattr(target, "_op")
    return str(target if plain else target._op)


def node_flops(node: fx.Node) -> int:
    """FLOPs of one node, which must have shapes in its `meta`."""
    inputs = [_shape(argument) for argument in node.args if isinstance(argument, fx.Node)]
    return operator_flops(operator_name(node), inputs, _shape(node))


def operator_flops(name: str, inputs: Sequence[Shape], output: Shape) -> int:
    """FLOPs of one operator, by its plain name and the shapes of its tensors, in the order of its arguments."""
    if name in ("linear", "mm", "bmm", "matmul"):
        return 2 * math.prod(output) * inputs[0][-1]
    if name in ("addmm", "baddbmm"):
        return 2 * math.prod(output) * inputs[1][-1]
    if name in ("conv2d", "convolution", "_convolution"):
        return 2 * math.prod(output) * math.prod(inputs[1][1:])
    if name in ("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu"):
        query, key = inputs[0], inputs[1]
        return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + output[-1])
    return 0


def count_operators(program: ExportedProgram) -> OperatorCounts:
    """Count the operators that depend on the program's inputs; what follows from weights alone is computed before."""
    signature = program.graph_signature
    inputs = {spec.arg.name for spec in signature.input_specs if spec.kind == InputKind.USER_INPUT}
    live: set[fx.Node] = set()
    operators = flops = 0
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in inputs:
            live.add(node)
        elif node.op == "call_function" and any(source in live for source in node.all_input_nodes):
            live.add(node)
            if node.target is not operator.getitem:
                operators += 1
                flops += node_flops(node)
    return OperatorCounts(operators, flops)


def _shape(node: Any) -> Shape:
    value = node.meta.get("val")
    value = value[0] if isinstance(value, tuple | list) and value else value
    return tuple(value.shape) if isinstance(value, Tensor) else ()
