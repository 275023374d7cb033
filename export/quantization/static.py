"""Static int8 by PT2E: ranges of activations are observed on calibration inputs and fixed in the exported graph.

PT2E (`torchao.quantization.pt2e`) is PyTorch's own way: observers are put into the exported graph, it is run on
examples, and observers become pairs of quantize and dequantize operators, which a backend recognizes. A `Quantizer`
says which operators are quantized; ours takes convolutions and linear layers and leaves all else in floating point.
(ExecuTorch's own for XNNPACK takes additions and products too: the residual stream is then rounded to eight bits after
every block, which costs the whole model's accuracy and saves next to nothing.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram, export
from torchao.quantization.pt2e import HistogramObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

from export.program.layer_precision import LayerPrecisions, module_path, precision_of
from export.quiet import quietly

PRECISION = "int8"
LAYERS = (torch.ops.aten.linear.default, torch.ops.aten.conv2d.default)
ACTIVATION = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-128,
    quant_max=127,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=HistogramObserver.with_args(eps=2**-20, reduce_range=False),
)
WEIGHT = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-127,
    quant_max=127,
    qscheme=torch.per_channel_symmetric,
    ch_axis=0,
    observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=2**-20),
)


class LayerQuantizer(Quantizer):
    """A quantizer that asks for eight bits in every convolution and linear layer without another precision.

    Linear layers of one row (of the image token, of the micro-conditioning) stay in floating point: they cost nothing,
    and their inputs differ most from the calibration's.
    """

    def __init__(self, layers: LayerPrecisions | None = None) -> None:
        super().__init__()
        self.layers = layers

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        constant = _constant_nodes(model.graph)
        for node in model.graph.nodes:
            if node.target not in LAYERS or node in constant or _rows(node) == 1:
                continue
            if precision_of(module_path(node), PRECISION, self.layers) == PRECISION:
                x, weight = node.args[:2]
                node.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map={x: ACTIVATION, weight: WEIGHT}, output_qspec=ACTIVATION, _annotated=True
                )
        return model

    def validate(self, model: fx.GraphModule) -> None:
        pass


def _rows(node: fx.Node) -> int:
    """Number of vectors that a linear layer is applied to; of positions in a convolution."""
    shape = node.meta["val"].shape
    return math.prod(shape[:-1]) if node.target == LAYERS[0] else math.prod(shape[2:]) * shape[0]


def _constant_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that depend on no input."""
    live: set[fx.Node] = set()
    constant: set[fx.Node] = set()
    for node in graph.nodes:
        reached = node.op == "placeholder" or any(source in live for source in node.all_input_nodes)
        (live if reached else constant).add(node)
    return constant


@torch.no_grad()
def quantize_static(
    program: ExportedProgram,
    example: tuple[Tensor, ...],
    calibration: Sequence[tuple[Tensor, ...]],
    layers: LayerPrecisions | None = None,
) -> ExportedProgram:
    """Return a graph with its layers in int8 and ranges from the calibration inputs (one evaluation each)."""
    with quietly():
        graph = cast(fx.GraphModule, program.module())
        prepared: Any = prepare_pt2e(graph, LayerQuantizer(layers))
        for inputs in calibration:
            prepared(*inputs)
        return export(convert_pt2e(prepared), example, strict=False)
