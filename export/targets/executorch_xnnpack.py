"""`executorch-xnnpack`: ExecuTorch on the phone's processor (and on this one)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from export.profile.origins import origins_file
from export.program.delegation import Delegation
from export.program.layer_precision import LayerPrecisions
from export.program.program import Program
from export.targets.base import Target
from export.targets.executorch_runtime import run_pte
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_bytes

FULL_PRECISION = {"add_time_proj": "fp32"}
"""Layers kept in fp32: the micro-conditioning's phases, as an input; 127 rad in half precision has steps of 1/16."""


class ExecutorchXnnpack(Target):
    """A .pte file with the whole graph in one XNNPACK delegate; `export/targets/xnnpack/` translates it.

    Precisions: fp32; fp16 (weights and arithmetic; GELU in fp32, inputs and outputs float32); int8 (static ranges by
    PT2E); 8da8w and 8da4w (weights of 8 bits, or 4 in groups of 32 where the layer is linear; activations of 8 bits
    with ranges measured at run time).
    """

    name = "executorch-xnnpack"
    precisions = ("fp32", "fp16", "int8", "8da8w", "8da4w")
    ladders = (("8da4w", "8da8w", "fp16", "fp32"), ("int8", "8da8w", "fp16", "fp32"))
    calibrated = True
    suffix = ".pte"
    phone_form = True
    tools = ("torch", "executorch", "torchao")

    def lower(self, program: Program, precision: str, file: Path, layers: LayerPrecisions | None = None) -> Delegation:
        from export.targets.xnnpack import NotDelegated, lower_by_partitioner, lower_to_file

        for own in (layers or {}).values():
            self.check_precision(own)
        layers = {**FULL_PRECISION, **(layers or {})}
        graph = program.graph(self.phone_form)
        if precision == "int8":
            from export.quantization.static import quantize_static

            calibration = [tuple(inputs.values()) for inputs in program.calibration]
            graph = quantize_static(graph, program.example, calibration, layers)
        try:
            return lower_to_file(graph, file, precision, layers, origins_file(file))
        except NotDelegated as error:
            if precision != "fp32":
                raise UserError(
                    f"export of {program.name} to {self.name}, {precision}: XNNPACK has no counterpart of {error}; fp32 "
                    "leaves such operators to other kernels"
                ) from None
            content, delegation = lower_by_partitioner(graph)
        atomic_write_bytes(file, content)
        return delegation

    def run(self, file: Path, inputs: Sequence[Tensor], threads: int | None = None) -> list[Tensor]:
        return run_pte(file, inputs, threads)
