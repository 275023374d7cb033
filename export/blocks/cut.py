"""The cut of the folded graph into pieces, one per block, that make the whole again when put one after the other.

A tensor between two pieces keeps the memory layout that it has in the whole program (`Value.order`), so that no piece
pays for a transposition that the whole does not have: the piece sees its input through a permutation, which is a view.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from export.blocks.nodes import blocks_of_nodes
from export.program.layer_precision import module_path
from export.program.operator_counts import node_flops
from export.program.program import Program
from export.targets.xnnpack.graph import Axes, Value, contiguous_order
from export.targets.xnnpack.lowering import NotDelegated, translate
from mobilevd.errors import UserError
from mobilevd.model.anatomy import Block

SEED = 0


@dataclass(frozen=True)
class Edge:
    """A tensor between pieces: its logical shape, and the order of its axes in memory."""

    node: fx.Node
    shape: Axes
    order: Axes

    @property
    def dims(self) -> Axes:
        """Sizes in memory order."""
        return tuple(self.shape[axis] for axis in self.order)


@dataclass(frozen=True)
class Piece:
    """A block's part of a graph.

    Attributes:
        nodes: the block's nodes, in order.
        inputs, outputs: tensors from other pieces or the program's inputs, and tensors for others or the program's
            outputs.
        constants: values that the nodes use and that depend on no input, by node.
        parameters: number of the model's weights that the constants come from.
    """

    block: Block
    nodes: list[fx.Node]
    inputs: list[Edge]
    outputs: list[Edge]
    constants: dict[fx.Node, Tensor]
    parameters: int

    @property
    def flops(self) -> int:
        return sum(node_flops(node) for node in self.nodes)

    @cached_property
    def key(self) -> str:
        """A hash that is equal for pieces with equal operators, shapes and types, whatever their weights and model."""
        names: dict[fx.Node, str] = {edge.node: f"in{i}" for i, edge in enumerate(self.inputs)}
        lines = [f"in {edge.dims} {edge.order} {_dtype(edge.node)}" for edge in self.inputs]
        for node, value in self.constants.items():
            names[node] = f"constant {tuple(value.shape)} {value.dtype}"

        def spelled(argument: Any) -> str:
            if isinstance(argument, fx.Node):
                return names[argument]
            return "number" if isinstance(argument, float) else repr(argument)

        for i, node in enumerate(self.nodes):
            arguments = pytree.tree_map(spelled, (list(node.args), dict(node.kwargs)))
            lines.append(f"{node.target} {arguments}")
            names[node] = f"node{i}"
        lines += [f"out {names[edge.node]} {edge.order}" for edge in self.outputs]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def module(self) -> fx.GraphModule:
        """The piece as a module; inputs and outputs are in their memory order."""
        root, graph = nn.Module(), fx.Graph()
        env: dict[fx.Node, fx.Node] = {}
        for i, edge in enumerate(self.inputs):
            given = graph.placeholder(f"x{i}")
            env[edge.node] = _permuted(graph, given, _inverse(edge.order))
        for i, (node, value) in enumerate(self.constants.items()):
            root.register_buffer(f"c{i}", value)
            env[node] = graph.get_attr(f"c{i}")
        for node in self.nodes:
            env[node] = graph.node_copy(node, lambda source: env[source])
            env[node].meta = {}
        graph.output(tuple(_permuted(graph, env[edge.node], edge.order) for edge in self.outputs))
        return fx.GraphModule(root, graph).eval()

    def program(self, name: str) -> Program:
        """The piece as a program of a bundle, on random inputs of its true shapes."""
        random = torch.Generator().manual_seed(SEED)
        module = self.module()
        inputs = {f"x{i}": torch.randn(edge.dims, generator=random) for i, edge in enumerate(self.inputs)}
        with torch.no_grad():
            outputs = [output.contiguous() for output in module(*inputs.values())]
        names = tuple(f"y{i}" for i in range(len(outputs)))
        return Program(name, module, {"noise": inputs}, {"noise": outputs}, names, [inputs])


def cut(program: ExportedProgram, scratch: Path | None = None) -> list[Piece]:
    """Return the pieces of a graph in the phone form, in the order in which they run; every live node is in one.

    Args:
        scratch: folder for large constants while they are in use.

    Raises:
        UserError: an operator that XNNPACK does not have, so that the whole is no single program there.
    """
    env: dict[fx.Node, object] = {}
    with TemporaryDirectory(dir=scratch) as folder, torch.no_grad():
        try:
            translate(program, scratch=Path(folder), env=env)
        except NotDelegated as error:
            raise UserError(f"the model cannot be measured by blocks: XNNPACK has no counterpart of {error}") from None
    given = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT}
    live: dict[fx.Node, None] = {}
    for node in program.graph.nodes:
        if node.op == "call_function" and any(s in live or s.name in given for s in node.all_input_nodes):
            live[node] = None
    results = set(cast(tuple[fx.Node, ...], program.graph.output_node().args[0]))
    constants = _Constants(program, env)
    pieces = []
    for block, nodes in _runs(list(live)):
        inside = set(nodes)
        sources = list(
            dict.fromkeys(source for node in nodes for source in node.all_input_nodes if source not in inside)
        )
        outer = [source for source in sources if source in live or source.name in given]
        fixed = [source for source in sources if source not in live and source.name not in given]
        taken = [node for node in nodes if node in results or any(user not in inside for user in node.users)]
        pieces.append(
            Piece(
                block,
                nodes,
                [_edge(source, env) for source in outer],
                [_edge(node, env) if node not in results else _plain_edge(node) for node in taken if node in env],
                {node: constants.value(node) for node in fixed},
                constants.parameters(fixed),
            )
        )
    return [piece for piece in pieces if piece.outputs]


def _runs(nodes: list[fx.Node]) -> list[tuple[Block, list[fx.Node]]]:
    """Split nodes into runs that belong to one block."""
    runs: list[tuple[Block, list[fx.Node]]] = []
    for node, block in zip(nodes, blocks_of_nodes([module_path(node) for node in nodes]), strict=True):
        if not runs or runs[-1][0] != block:
            runs.append((block, []))
        runs[-1][1].append(node)
    return runs


class _Constants:
    """The values in a program that depend on no input."""

    def __init__(self, program: ExportedProgram, env: Mapping[fx.Node, object]) -> None:
        self._env = env
        specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        self._sizes = {
            node: int(node.meta["val"].numel())
            for node in program.graph.nodes
            if node.op == "placeholder" and specs[node.name].kind == InputKind.PARAMETER
        }

    def value(self, node: fx.Node) -> Tensor:
        value = self._env[node]
        assert isinstance(value, Tensor)  # the translation computes all values that depend on constants alone
        return value.detach()

    def parameters(self, nodes: list[fx.Node]) -> int:
        """Number of weights that these nodes are computed from, each counted once."""
        seen: set[fx.Node] = set()
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += node.all_input_nodes
        return sum(self._sizes.get(node, 0) for node in seen)


def _edge(node: fx.Node, env: Mapping[fx.Node, object]) -> Edge:
    value = env[node]
    assert isinstance(value, Value)  # one tensor: an operator with several is taken apart in its own block
    return Edge(node, value.shape, value.order)


def _plain_edge(node: fx.Node) -> Edge:
    shape = tuple(node.meta["val"].shape)
    return Edge(node, shape, contiguous_order(len(shape)))


def _permuted(graph: fx.Graph, node: fx.Node, order: Axes) -> fx.Node:
    if order == contiguous_order(len(order)):
        return node
    return graph.call_function(torch.ops.aten.permute.default, (node, list(order)))


def _inverse(order: Axes) -> Axes:
    return tuple(order.index(axis) for axis in range(len(order)))


def _dtype(node: fx.Node) -> str:
    return str(node.meta["val"].dtype)
