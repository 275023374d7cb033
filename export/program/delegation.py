"""The delegation of a program: the operators in its backend and those left outside, read from the program itself."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch.export import ExportedProgram

from device_runner.bundle.manifest import DelegationEntry, OutsideOperator
from export.program.operator_counts import node_flops, overload_name

MAX_SHAPES = 4  # shapes kept of one operator outside; further ones repeat


@dataclass(frozen=True)
class Delegation:
    """The delegation of a program's operators.

    Attributes:
        delegates: number of parts handed to the backend, each as one; every border between two costs copies.
        operators_outside: the operators that the runtime's plain kernels compute.
        operators_inside: number of operators in the delegates.
        flops_share: share of the floating-point operations that is inside, 0 to 1; 1 if there are none at all.
    """

    delegates: int
    operators_outside: list[OutsideOperator]
    operators_inside: int
    flops_share: float

    @property
    def operator_share(self) -> float:
        """Share of the operators that is inside, 0 to 1."""
        total = self.operators_inside + sum(o.count for o in self.operators_outside)
        return self.operators_inside / total if total else 1.0

    def entry(self) -> DelegationEntry:
        """The manifest's entry."""
        return DelegationEntry(
            delegates=self.delegates,
            operators_outside=tuple(self.operators_outside),
            operators_inside=self.operators_inside,
            flops_share=self.flops_share,
            operator_share=self.operator_share,
        )


class OutsideCounter:
    """A counter of operators outside, by name."""

    def __init__(self) -> None:
        self._found: dict[str, OutsideOperator] = {}

    def add(self, op: str, shapes: Sequence[Sequence[int]]) -> None:
        before = self._found.get(op, OutsideOperator(op, 0, ()))
        seen = (*before.shapes, tuple(tuple(shape) for shape in shapes))[:MAX_SHAPES]
        self._found[op] = OutsideOperator(op, before.count + 1, seen)

    def result(self) -> list[OutsideOperator]:
        """The operators outside, the most frequent first."""
        return sorted(self._found.values(), key=lambda o: -o.count)


def delegation_of_edge(program: ExportedProgram) -> Delegation:
    """The delegation of a program partitioned by ExecuTorch (`EdgeProgramManager.exported_program()`)."""
    delegates = inside = flops_inside = flops_outside = 0
    outside = OutsideCounter()
    modules = dict(program.graph_module.named_modules())
    for node in program.graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        if "executorch_call_delegate" in str(node.target):
            delegates += 1
            lowered: Any = modules[str(node.args[0].target)]
            for inner in lowered.original_module.graph.nodes:
                if inner.op == "call_function" and inner.target is not operator.getitem:
                    inside += 1
                    flops_inside += node_flops(inner)
        else:
            outside.add(overload_name(node), _shapes(node))
            flops_outside += node_flops(node)
    total = flops_inside + flops_outside
    return Delegation(delegates, outside.result(), inside, flops_inside / total if total else 1.0)


def _shapes(node: fx.Node) -> list[list[int]]:
    values = [source.meta.get("val") for source in node.all_input_nodes]
    return [list(value.shape) for value in values if isinstance(value, Tensor)]
