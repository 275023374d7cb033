"""Lowering to ExecuTorch's XNNPACK backend: the whole graph as one delegate, in seconds.

ExecuTorch's own way there (`to_edge_transform_and_lower` with the XNNPACK partitioner) retraces the graph about fifty
times, which takes minutes for any SVD-like UNet whatever its size, and leaves a transposition around every change
between convolutions and tokens. Here the exported graph is translated directly, once (`export/xnnpack_ops.py`); the
payload's format and its writer are ExecuTorch's own, and the result is an ordinary .pte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch import Tensor, fx, nn
from torch.export import ExportedProgram, export
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from export.xnnpack_graph import GraphBuilder, Value
from export.xnnpack_ops import Unsupported, build

SEGMENT_ALIGNMENT = 4096  # of the constants in the file: a page, so that a device can map them


@dataclass(frozen=True)
class OutsideOperator:
    """An operator that XNNPACK cannot take: how often, and the shapes of its tensor arguments (first few)."""

    op: str
    count: int
    shapes: list[list[list[int]]] = field(default_factory=list)


class NotDelegated(Exception):
    """Part of the graph has no counterpart in XNNPACK; `operators` lists all of it."""

    def __init__(self, operators: list[OutsideOperator]) -> None:
        self.operators = operators
        first = operators[0]
        super().__init__(f"{first.op} (x{first.count}, of {first.shapes[0]}) has no counterpart in XNNPACK")


def lower_to_xnnpack(module: nn.Module, inputs: Sequence[Tensor]) -> bytes:
    """The content of a .pte file: `module` for inputs of these shapes, as one XNNPACK delegate.

    Whatever depends on parameters and constants alone is computed here and stored.

    Raises:
        NotDelegated: naming every operator that XNNPACK does not have.
    """
    with torch.no_grad():
        program = export(module, tuple(inputs), strict=False)
        builder = translate(program)
        return _emit(program, builder)


def translate(program: ExportedProgram) -> GraphBuilder:
    """XNNPACK's graph of an exported program."""
    builder = GraphBuilder()
    env: dict[fx.Node, object] = {}
    outside: dict[str, OutsideOperator] = {}
    tensors = {**program.state_dict, **program.constants}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}  # type: ignore[union-attr]
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = specs[node.name]
            if spec.kind == InputKind.USER_INPUT:
                env[node] = builder.input(node.meta["val"].shape)
            else:
                env[node] = tensors[str(spec.target)]
        elif node.op == "call_function":
            args, kwargs = pytree.tree_map(
                lambda a: env.get(a, a) if isinstance(a, fx.Node) else a, (node.args, node.kwargs)
            )
            leaves = pytree.tree_leaves((args, kwargs))
            if any(isinstance(leaf, fx.Node) for leaf in leaves):
                continue  # behind an operator that is outside already
            if not any(isinstance(leaf, Value) for leaf in leaves):
                env[node] = node.target(*args, **kwargs)  # from constants alone
                continue
            try:
                env[node] = build(builder, node.target, args, kwargs)
            except Unsupported as error:
                _note(outside, f"{node.target}: {error}", node)
        elif node.op == "output" and not outside:
            for result in node.args[0]:
                value = env[result]
                assert isinstance(value, Value), "an output that does not depend on the inputs"
                builder.output(value)
    if outside:
        raise NotDelegated(list(outside.values()))
    return builder


def _note(outside: dict[str, OutsideOperator], op: str, node: fx.Node) -> None:
    shapes = [list(n.meta["val"].shape) for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]
    before = outside.get(op, OutsideOperator(op, 0))
    outside[op] = OutsideOperator(op, before.count + 1, [*before.shapes[:3], shapes])


class _Signature(nn.Module):
    """Stands for the lowered graph where only inputs and outputs matter."""

    def __init__(self, shapes: list[torch.Size]) -> None:
        super().__init__()
        self.shapes = shapes

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.zeros(shape) for shape in self.shapes)


def _emit(program: ExportedProgram, builder: GraphBuilder) -> bytes:
    """Wrap the graph as the only delegate of an ExecuTorch program."""
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    inputs = tuple(torch.zeros(placeholders[name].meta["val"].shape) for name in program.graph_signature.user_inputs)
    returned: Any = program.graph.output_node().args[0]
    outputs = [node.meta["val"].shape for node in returned]
    lowered = LoweredBackendModule(
        edge_program=export(_Signature(outputs), inputs, strict=False),
        backend_id="XnnpackBackend",
        processed_bytes=builder.serialize(),
        compile_specs=[],
        named_data_store_output=builder.store.get_named_data_store_output(),
    )
    return lowered.buffer(extract_delegate_segments=True, segment_alignment=SEGMENT_ALIGNMENT)
