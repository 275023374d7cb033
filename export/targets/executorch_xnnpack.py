"""`executorch-xnnpack`: ExecuTorch on the phone's processor (and on this one)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from export.delegation import Delegation
from export.executorch_runtime import run_pte
from export.program import Program
from export.targets.base import LayerPrecisions, Target
from mobilevd.files import atomic_write_bytes
from mobilevd.nn.ops import set_phone_form


class ExecutorchXnnpack(Target):
    """A .pte file with the whole graph in one XNNPACK delegate; `export/xnnpack/` translates it."""

    name = "executorch-xnnpack"
    precisions = ("fp32",)
    suffix = ".pte"
    phone_form = True
    tools = ("torch", "executorch")

    def lower(self, program: Program, precision: str, file: Path, layers: LayerPrecisions | None = None) -> Delegation:
        from export.xnnpack import NotDelegated, lower_by_partitioner, lower_to_xnnpack

        set_phone_form(program.module)
        try:
            content, delegation = lower_to_xnnpack(program.module, program.example)
        except NotDelegated:
            content, delegation = lower_by_partitioner(program.module, program.example)
        atomic_write_bytes(file, content)
        return delegation

    def run(self, file: Path, inputs: Sequence[Tensor], threads: int | None = None) -> list[Tensor]:
        return run_pte(file, inputs, threads)
