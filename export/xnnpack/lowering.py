"""Lowering to ExecuTorch's XNNPACK backend: the whole graph as one delegate, in seconds.

ExecuTorch's own way there (`to_edge_transform_and_lower` with the XNNPACK partitioner) retraces the graph about fifty
times, which takes minutes for any SVD-like UNet whatever its size, and leaves a transposition around every change
between convolutions and tokens. Here the exported graph is translated directly, once (`operators.py`); the
payload's format and its writer are ExecuTorch's own, and the result is an ordinary .pte. For a graph with an operator
that the translation does not know there is the slow way, which leaves such operators outside the delegate.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch import Tensor, fx, nn
from torch.export import ExportedProgram, export
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from export.delegation import Delegation, OutsideCounter, OutsideOperator, delegation_of_edge
from export.xnnpack.graph import GraphBuilder, Unsupported, Value
from export.xnnpack.operators import build

SEGMENT_ALIGNMENT = 4096  # of the constants in the file: a page, so that a device can map them


class NotDelegated(Exception):
    """Part of the graph has no counterpart in XNNPACK; `operators` lists what was found, not what lies behind it."""

    def __init__(self, operators: list[OutsideOperator]) -> None:
        self.operators = operators
        super().__init__(", ".join(f"{o.op} (x{o.count})" for o in operators))


def lower_to_xnnpack(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[bytes, Delegation]:
    """The content of a .pte file: `module` for float32 inputs of these shapes, as one XNNPACK delegate.

    Whatever depends on parameters and constants alone is computed here and stored.

    Raises:
        NotDelegated: naming the operators that XNNPACK does not have.
    """
    with torch.no_grad(), _without_deprecations():
        program = export(module, tuple(inputs), strict=False)
        builder = translate(program)
        return _emit(program, builder), Delegation(1, [], len(builder.nodes), 1.0)


def lower_by_partitioner(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[bytes, Delegation]:
    """The same by ExecuTorch's own lowering: slow, and what XNNPACK does not take runs outside, in portable kernels."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    with torch.no_grad(), _without_deprecations():
        edge = to_edge_transform_and_lower(
            export(module, tuple(inputs), strict=False),
            partitioner=[XnnpackPartitioner()],
            # the check refuses some operators that the portable kernels do have
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        delegation = delegation_of_edge(edge.exported_program())
        return bytes(edge.to_executorch().buffer), delegation


def translate(program: ExportedProgram) -> GraphBuilder:
    """XNNPACK's graph of an exported program.

    Raises:
        NotDelegated: naming the operators that XNNPACK does not have.
    """
    builder = GraphBuilder()
    env: dict[fx.Node, object] = {}
    outside = OutsideCounter()
    tensors = {**program.state_dict, **program.constants}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = specs[node.name]
            if spec.kind == InputKind.USER_INPUT:
                env[node] = builder.input(node.meta["val"].shape)
            else:
                env[node] = tensors[str(spec.target)]
        elif node.op == "call_function":
            known = pytree.tree_map(lambda a: env.get(a, a) if isinstance(a, fx.Node) else a, (node.args, node.kwargs))
            leaves = pytree.tree_leaves(known)
            if any(isinstance(leaf, fx.Node) for leaf in leaves):
                continue  # behind an operator that is outside already
            if not any(isinstance(leaf, Value) for leaf in leaves):
                env[node] = node.target(*known[0], **known[1])  # from constants alone
                continue
            try:
                env[node] = build(builder, node.target, *known)
            except Unsupported as error:
                shapes = [n.meta["val"].shape for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]
                outside.add(f"{node.target}: {error}", [list(shape) for shape in shapes])
        elif node.op == "output" and not outside.result():
            for result in node.args[0]:
                builder.output(cast(Value, env[result]))
    if outside.result():
        raise NotDelegated(outside.result())
    return builder


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
    results = program.graph.output_node().args[0]
    shapes = [node.meta["val"].shape for node in cast(Sequence[fx.Node], results)]
    lowered = LoweredBackendModule(
        edge_program=export(_Signature(shapes), inputs, strict=False),
        backend_id="XnnpackBackend",
        processed_bytes=builder.serialize(),
        compile_specs=[],
        named_data_store_output=builder.store.get_named_data_store_output(),
    )
    return lowered.buffer(extract_delegate_segments=True, segment_alignment=SEGMENT_ALIGNMENT)


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """ExecuTorch calls functions that PyTorch and itself call deprecated: nothing that a user could change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
