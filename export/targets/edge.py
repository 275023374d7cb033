"""The base of the targets that use one of ExecuTorch's own partitioners and are not run on this host."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export

from export.program.delegation import Delegation, delegation_of_edge
from export.program.layer_precision import LayerPrecisions
from export.program.program import Program
from export.quiet import quietly
from export.targets.base import Target
from export.targets.decompositions import Table
from export.targets.full_precision import keep_outside
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_bytes
from mobilevd.model.layers.ops import PhoneForm, set_phone_form


class EdgeTarget(Target):
    """A .pte file whose graph goes through `to_edge_transform_and_lower`.

    Attributes:
        table: forms of operators for the partitioner; all others stay PyTorch's native ones.
    """

    suffix = ".pte"
    tools = ("torch", "executorch")
    table: ClassVar[Table] = {}

    @abstractmethod
    def partitioner(self, precision: str) -> Any:
        """ExecuTorch's partitioner, which knows the backend's operators and its compile options."""

    def lower(self, program: Program, precision: str, file: Path, layers: LayerPrecisions | None = None) -> Delegation:
        refuse_layers(self, layers)
        with quietly():
            from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

            partitioner = self.partitioner(precision)
            edge = to_edge_transform_and_lower(
                exported(program.module, program.example, self.table),
                partitioner=[keep_outside(partitioner) if precision == "fp16" else partitioner],
                # the check refuses some operators that the portable kernels do have
                compile_config=EdgeCompileConfig(_check_ir_validity=False),
            )
            delegation = delegation_of_edge(edge.exported_program())
            content = bytes(edge.to_executorch().buffer)
        atomic_write_bytes(file, content)
        return delegation

    def run(self, file: Path, inputs: Sequence[Tensor], threads: int | None = None) -> list[Tensor]:
        raise UserError(f"{file}: {self.not_executed}")


def refuse_layers(target: Target, layers: LayerPrecisions | None) -> None:
    """Raise UserError if layers have precisions of their own, for a backend that compiles a graph in one precision."""
    if layers:
        raise UserError(
            f"target {target.name} has one precision for the whole program; {', '.join(layers)} cannot have another"
        )


@torch.no_grad()
def exported(module: nn.Module, example: Sequence[Tensor], table: Table) -> ExportedProgram:
    """Export `module` in its native form, with the forms in `table`; what follows from constants alone is computed.

    The module is left as it was.
    """
    from executorch.exir.passes.constant_prop_pass import constant_prop_pass

    with native_spelling(module):
        graph = export(module, tuple(example), strict=False)
    return constant_prop_pass(graph.run_decompositions(table))


@contextmanager
def native_spelling(module: nn.Module) -> Iterator[None]:
    """Give every operator its native form while the context lasts (`set_phone_form`)."""
    before = {part: part.phone_form for part in module.modules() if isinstance(part, PhoneForm)}
    set_phone_form(module, False)
    try:
        yield
    finally:
        for part, phone_form in before.items():
            part.phone_form = phone_form
