"""`coreml`: a Core ML package for iOS 18, macOS 15 or newer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from export.program.delegation import Delegation
from export.program.layer_precision import LayerPrecisions
from export.program.program import Program
from export.quiet import quietly
from export.targets.base import Target
from export.targets.coreml_package import COMPRESSED, check_package, main_operations
from export.targets.coreml_phases import feeds_only_phases
from export.targets.coreml_weights import compress, kept_weights
from export.targets.decompositions import FOR_COREML
from export.targets.edge import native_spelling
from mobilevd.errors import UserError


class Coreml(Target):
    """An ML program (.mlpackage) with named inputs and outputs, all float32 arrays.

    Precisions: fp16 and fp32 hold for weights and arithmetic. The others compute in fp16 and compress the weights:
    palettized6 and palettized4 (a table of 64 values for each weight, or of 16 for every 16 output channels, by
    k-means), int8 (linear, a scale per output channel). Single layers can then stay at fp16.
    """

    name = "coreml"
    precisions = ("fp16", "fp32", *COMPRESSED)
    suffix = ".mlpackage"
    not_executed = "Core ML runs on Apple systems only"
    tools = ("torch", "coremltools")

    def lower(self, program: Program, precision: str, file: Path, layers: LayerPrecisions | None = None) -> Delegation:
        self._check_layers(precision, layers)
        with quietly():
            graph = _exported(program)
            kept = kept_weights(graph, layers)
            try:
                model = _convert(graph, program, precision)
            except NotImplementedError as error:
                raise UserError(f"export of {program.name} to {self.name}: {error}") from error
            if precision in COMPRESSED:
                model = compress(model, precision, kept)
            model.save(str(file))
        spec = check_package(file, program, precision, kept)
        return Delegation(1, [], len(main_operations(spec)), 1.0)

    def computes_in_half(self, node: fx.Node, precision: str, layers: LayerPrecisions | None = None) -> bool:
        return super().computes_in_half(node, "fp32" if precision == "fp32" else "fp16")

    def run(self, file: Path, inputs: Sequence[Tensor], threads: int | None = None) -> list[Tensor]:
        raise UserError(f"{file}: {self.not_executed}")

    def _check_layers(self, precision: str, layers: LayerPrecisions | None) -> None:
        for layer, own in (layers or {}).items():
            if own not in (precision, "fp16") or precision == "fp32":
                raise UserError(
                    f"target {self.name}: layer {layer} cannot have {own} in a program of {precision}; layers can be kept "
                    f"at fp16 where the program's precision is {', '.join(COMPRESSED)}"
                )


@torch.no_grad()
def _exported(program: Program) -> Any:
    with native_spelling(program.module):
        graph = torch.export.export(program.module, program.example, strict=False)
    return graph.run_decompositions(FOR_COREML)


def _convert(graph: Any, program: Program, precision: str) -> Any:
    import coremltools as ct
    import numpy as np

    return ct.convert(
        graph,
        convert_to="mlprogram",
        inputs=[
            ct.TensorType(name=name, shape=tuple(tensor.shape), dtype=np.float32)
            for name, tensor in zip(program.inputs, program.example, strict=True)
        ],
        outputs=[ct.TensorType(name=name, dtype=np.float32) for name in program.outputs],
        minimum_deployment_target=ct.target.iOS18,  # for fused attention, palettes for groups of channels
        compute_precision=ct.precision.FLOAT32
        if precision == "fp32"
        else ct.transform.FP16ComputePrecision(op_selector=lambda operation: not feeds_only_phases(operation)),
        skip_model_load=True,  # loading compiles it, which only Apple systems do
    )
