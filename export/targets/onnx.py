"""`onnx`: a graph for ONNX Runtime, on the phone and on this host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from export.program.delegation import Delegation, OutsideCounter
from export.program.layer_precision import LayerPrecisions, module_class
from export.program.program import Program
from export.targets.base import Target

if TYPE_CHECKING:
    from onnx import ModelProto

OWN_DOMAINS = ("", "ai.onnx", "com.microsoft")  # domains of the operators that ONNX Runtime has kernels for


class Onnx(Target):
    """An .onnx file with static shapes; inputs and outputs are float32 in every precision.

    fp16 keeps the normalizations in float32; int8 quantizes convolutions and linear layers (weights per channel), and
    keeps attention, softmax and normalizations in float32. Any layers can have any of the three precisions.
    """

    name = "onnx"
    precisions = ("fp32", "fp16", "int8")
    ladders = (("int8", "fp16", "fp32"),)
    calibrated = True
    suffix = ".onnx"
    phone_form = False  # except attention and the gated GELU: `spell_for_onnx`
    tools = ("torch", "onnx", "onnxruntime", "onnxscript")

    def lower(self, program: Program, precision: str, file: Path, layers: LayerPrecisions | None = None) -> Delegation:
        """Lower as `Target.lower` does; weights too large for one file go to `FILE.data` beside it.

        Raises:
            UserError: unknown precision, unknown layer, or int8 without calibration inputs.
        """
        from export.targets.onnx_graph.capture import capture
        from export.targets.onnx_graph.files import check_graph, strip_origin, write_graph
        from export.targets.onnx_graph.half import to_half
        from export.targets.onnx_graph.precisions import precisions_of_nodes
        from export.targets.onnx_graph.quantize import quantize

        self.check_precision(precision)
        model = capture(program)
        chosen = precisions_of_nodes(model, precision, layers or {}, self.precisions)
        strip_origin(model)
        if "int8" in (precision, *(layers or {}).values()):
            model = quantize(model, {name for name, own in chosen.items() if own == "int8"}, program.calibration)
        if half := {name for name, own in chosen.items() if own == "fp16"}:
            to_half(model, half)
        write_graph(model, file)
        return delegation(check_graph(file))

    def computes_in_half(self, node: fx.Node, precision: str, layers: LayerPrecisions | None = None) -> bool:
        return not module_class(node).endswith("Norm") and super().computes_in_half(node, precision, layers)

    def arithmetic(self, precision: str, layers: LayerPrecisions | None = None) -> str:
        if "fp16" not in (precision, *(layers or {}).values()):
            return super().arithmetic(precision, layers)
        return "ONNX Runtime's: float16 where its CPU kernels have it, float32 between casts elsewhere"

    def run(self, file: Path, inputs: Sequence[Tensor], threads: int | None = None) -> list[Tensor]:
        from export.targets.onnx_graph.files import session

        runtime = session(file, threads)
        names = [value.name for value in runtime.get_inputs()]
        feed = {name: tensor.detach().contiguous().numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in runtime.run(None, feed)]


def delegation(graph: ModelProto) -> Delegation:
    """The delegation of a graph: ONNX Runtime runs all of it; only operators of other domains would be outside."""
    outside = OutsideCounter()
    for node in graph.graph.node:
        if node.domain not in OWN_DOMAINS:
            outside.add(f"{node.domain}::{node.op_type}", [])
    others = outside.result()
    inside = len(graph.graph.node) - sum(o.count for o in others)
    return Delegation(delegates=1, operators_outside=others, operators_inside=inside, flops_share=1.0)
