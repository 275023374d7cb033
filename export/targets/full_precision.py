"""Layers that stay in float32 whatever a program's precision, for backends that compile a graph in one precision.

A partitioner that would put them into its half-precision delegate leaves them, and all that they alone are computed
from, to ExecuTorch's own kernels, which keep float32.
"""

from __future__ import annotations

from typing import Any

from torch import fx
from torch.export import ExportedProgram

from export.program.layer_precision import IN_FULL_PRECISION, module_path, precision_of


def in_full_precision(node: fx.Node) -> bool:
    """True for an operator of a layer in `IN_FULL_PRECISION`."""
    return node.op == "call_function" and bool(precision_of(module_path(node), "", IN_FULL_PRECISION))


def keep_outside(partitioner: Any) -> Any:
    """Make a partitioner leave such layers, with everything before them, outside its delegates; return it."""
    partition = partitioner.partition

    def without(program: ExportedProgram) -> Any:
        result = partition(program)
        outside: set[fx.Node] = set()
        for node in reversed(result.tagged_exported_program.graph.nodes):
            # what stands before must be outside too: the delegate would else be needed before and after
            if in_full_precision(node) or any(user in outside for user in node.users):
                outside.add(node)
                node.meta.pop("delegation_tag", None)
        used = {node.meta.get("delegation_tag") for node in result.tagged_exported_program.graph.nodes}
        result.partition_tags = {tag: spec for tag, spec in result.partition_tags.items() if tag in used}
        return result

    partitioner.partition = without
    return partitioner
