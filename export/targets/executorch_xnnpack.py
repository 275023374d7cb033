"""`executorch-xnnpack`: ExecuTorch on the phone's processor (and on this one)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, fx

from export.profile.origins import origins_file
from export.program.delegation import Delegation
from export.program.layer_precision import IN_FULL_PRECISION, LayerPrecisions
from export.program.program import Program
from export.targets.base import Target
from export.targets.executorch_runtime import run_pte
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_bytes


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
    has_weight_cache = True
    tools = ("torch", "executorch", "torchao")

    def lower(self, program: Program, precision: str, file: Path, layers: LayerPrecisions | None = None) -> Delegation:
        from export.targets.xnnpack import NotDelegated, lower_by_partitioner, lower_to_file

        for own in (layers or {}).values():
            self.check_precision(own)
        layers = {**IN_FULL_PRECISION, **(layers or {})}
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

    def arithmetic(self, precision: str, layers: LayerPrecisions | None = None) -> str:
        if "fp16" not in (precision, *(layers or {}).values()):
            return super().arithmetic(precision, layers)
        processor = platform.machine() or "this processor"
        return f"XNNPACK's on {processor}: values in float16, sums as its kernels for this processor take them"

    def computes_in_half(self, node: fx.Node, precision: str, layers: LayerPrecisions | None = None) -> bool:
        from export.targets.xnnpack.operators import IN_FLOAT32

        return node.target not in IN_FLOAT32 and super().computes_in_half(node, precision, layers)

    def run(self, file: Path, inputs: Sequence[Tensor], threads: int | None = None) -> list[Tensor]:
        return run_pte(file, inputs, threads)
