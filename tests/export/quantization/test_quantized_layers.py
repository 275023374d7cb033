"""Quantized layers on XNNPACK: the integers that were meant, the numbers of PyTorch's own arithmetic on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as xnn
from torch import Tensor, nn
from torch.export import export

from export.program.layer_precision import precision_of
from export.program.parity import snr_db
from export.quantization.blocks import find_blocks
from export.quantization.simulate import observe_ranges, simulated
from export.quantization.static import quantize_static
from export.quantization.weights import WeightFormat, quantize_weight
from export.targets.executorch_runtime import run_pte
from export.targets.xnnpack.lowering import translate
from mobilevd.model.layers.architecture import Architecture
from mobilevd.model.layers.ops import set_phone_form
from mobilevd.model.layers.transformer import AttentionBlock
from tests.export.lowered import lower_exported, lower_to_xnnpack


class Layers(nn.Module):
    """A convolution, tokens, and linear layers behind it: (2, 8, 6, 6) -> (2, 36, 24)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(8, 64, 3, padding=1)
        self.first = nn.Linear(64, 96)
        self.second = nn.Linear(96, 24, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.tanh(self.conv(x)).flatten(2).transpose(1, 2)
        return self.second(torch.nn.functional.gelu(self.first(tokens)))


@pytest.fixture(scope="module")
def layers() -> tuple[Layers, Tensor]:
    return Layers().eval(), torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(1))


def run(content: bytes, x: Tensor, folder: Path) -> Tensor:
    (folder / "program.pte").write_bytes(content)
    return run_pte(folder / "program.pte", [x])[0]


@pytest.mark.parametrize(("precision", "least_db"), [("8da8w", 38), ("8da4w", 15), ("fp16", 50)])
def test_a_program_computes_what_the_simulation_says(
    layers: tuple[Layers, Tensor], precision: str, least_db: float, tmp_path: Path
) -> None:
    """Both are far closer to each other than to full precision; without that, sensitivities would mean nothing.

    Half precision is simulated elsewhere, on graphs: its figure here is the program's own, 53 dB on a processor with
    AVX512-FP16, which computes in half precision, and more on others, which take sums in float32.
    """
    module, x = layers
    with torch.no_grad():
        exact = module(x)
        blocks = find_blocks(module)
        with simulated(blocks[0], precision), simulated(blocks[1], precision), simulated(blocks[2], precision):
            expected = module(x)
        torch.testing.assert_close(module(x), exact)  # the simulation leaves nothing behind
        content, delegation = lower_to_xnnpack(module, [x], precision)
    output = run(content, x, tmp_path)
    assert delegation.delegates == 1 and not delegation.operators_outside
    assert least_db <= snr_db(output, exact) < 90
    if precision != "fp16":  # whose products are rounded too, in an order of their own
        assert snr_db(output, expected) > snr_db(output, exact) + 10


def test_static_ranges_are_pt2es(layers: tuple[Layers, Tensor], tmp_path: Path) -> None:
    module, x = layers
    calibration = [(torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(seed)),) for seed in (2, 3)]
    graph = quantize_static(export(module, (x,)), (x,), calibration)
    content, _ = lower_exported(graph, "int8")
    output = run(content, x, tmp_path)
    with torch.no_grad():
        exact, pt2e = module(x), graph.module()(x)
    assert 20 <= snr_db(output, exact) < 60
    assert snr_db(output, pt2e) > snr_db(output, exact) + 6


def test_static_ranges_come_from_the_calibration_inputs(layers: tuple[Layers, Tensor], tmp_path: Path) -> None:
    module, x = layers
    content, _ = lower_exported(quantize_static(export(module, (x,)), (x,), [(x * 0.01,)]), "int8")
    with torch.no_grad():
        assert snr_db(run(content, x, tmp_path), module(x)) < 10


def types_of(layers: dict[str, str], precision: str = "8da8w") -> list[xnn.XNNDatatype]:
    module = Layers().eval()
    with torch.no_grad():
        g = translate(export(module, (torch.randn(2, 8, 6, 6),), strict=False), precision, layers)
    kinds = (xnn.XNNConv2d, xnn.XNNFullyConnected)
    return [g.values[n.xnode_union.filter_id].datatype for n in g.nodes if isinstance(n.xnode_union, kinds)]


def test_layers_may_have_a_precision_of_their_own() -> None:
    T = xnn.XNNDatatype
    assert types_of({}) == [T.xnn_datatype_qcint8] * 3
    assert types_of({"conv": "fp32", "second": "8da4w"}) == [
        T.xnn_datatype_fp32, T.xnn_datatype_qcint8, T.xnn_datatype_qbint4
    ]  # fmt: skip
    assert types_of({"first": "fp16"}, "fp32") == [T.xnn_datatype_fp32, T.xnn_datatype_fp16, T.xnn_datatype_fp32]
    module = Layers().eval()
    x = (torch.randn(2, 8, 6, 6),)
    graph = quantize_static(export(module, x), x, [x], {"first": "fp32"})
    quantized = {str(node.target) for node in graph.graph.nodes if "dequantize_per_channel" in str(node.target)}
    assert quantized and sum("dequantize_per_channel" in str(node.target) for node in graph.graph.nodes) == 2


def test_a_layer_of_one_row_stays_in_floating_point() -> None:
    class Conditioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of_tokens, self.of_the_image = nn.Linear(32, 32), nn.Linear(32, 32)

        def forward(self, tokens: Tensor, image: Tensor) -> Tensor:
            return self.of_tokens(tokens) + self.of_the_image(image)

    inputs = (torch.randn(1, 20, 32), torch.randn(1, 1, 32))
    g = translate(quantize_static(export(Conditioned(), inputs), inputs, [inputs]), "int8")
    layers = [n.xnode_union for n in g.nodes if isinstance(n.xnode_union, xnn.XNNFullyConnected)]
    assert [g.values[layer.filter_id].datatype for layer in layers] == [
        xnn.XNNDatatype.xnn_datatype_qcint8, xnn.XNNDatatype.xnn_datatype_fp32
    ]  # fmt: skip


def test_mixed_types_meet_in_one_program(layers: tuple[Layers, Tensor], tmp_path: Path) -> None:
    module, x = layers
    content, _ = lower_to_xnnpack(module, [x], "8da4w", {"conv": "fp16", "second": "fp32"})
    with torch.no_grad():
        assert 20 < snr_db(run(content, x, tmp_path), module(x)) < 60


def test_the_innermost_name_counts_and_names_are_whole() -> None:
    layers = {"down_blocks.1": "fp16", "down_blocks.1.resnets.0": "fp32"}
    assert precision_of("unet.down_blocks.1.resnets.0.conv1", "int8", layers) == "fp32"
    assert precision_of("module.unet.down_blocks.1.resnets.1", "int8", layers) == "fp16"
    assert precision_of("unet.down_blocks.10.resnets.0", "int8", layers) == "int8"
    assert precision_of("", "int8", layers) == "int8"


def test_weights_round_to_the_nearest_of_their_steps() -> None:
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    eight = quantize_weight(weight, WeightFormat(8))
    assert torch.all((eight.dequantized() - weight).abs() <= eight.scale[:, None] / 2 + 1e-7)
    assert eight.values.abs().amax(1).tolist() == [127] * 6
    channel = quantize_weight(weight, WeightFormat(4))
    group = quantize_weight(weight, WeightFormat(4, 32))
    assert group.scale.shape == (6, 2) and channel.scale.shape == (6,)
    assert -8 <= int(group.values.min()) and int(group.values.max()) <= 7
    errors = [float((q.dequantized() - weight).pow(2).mean()) for q in (eight, group, channel)]
    assert errors[0] < errors[1] < errors[2]
    plain = weight.abs().amax(1, keepdim=True) / 7
    assert errors[2] < float((torch.round(weight / plain) * plain - weight).pow(2).mean())
    assert group.size_bytes == 6 * 32 + 6 * 2 * 2
    assert quantize_weight(torch.randn(6, 40), WeightFormat(4, 32)).group_size is None  # 40 is not divisible by 32
    assert quantize_weight(torch.randn(6, 4, 3, 3), WeightFormat(4, 32)).bits == 8


def test_a_transformer_block_in_eight_bits_stays_one_delegate(tmp_path: Path) -> None:
    """Attention between quantized layers: products and softmax stay in floating point."""
    torch.manual_seed(0)

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = AttentionBlock("block", 64, 2, 32, Architecture(cross_attention="projection"))

        def forward(self, x: Tensor, context: Tensor) -> Tensor:
            return self.block(x, context)

    module, inputs = Tokens().eval(), (torch.randn(1, 20, 64), torch.randn(1, 1, 32))
    with torch.no_grad():
        exact = module(*inputs)
    set_phone_form(module)
    graph = quantize_static(export(module, inputs), inputs, [inputs])
    for content, delegation in (lower_exported(graph, "int8"), lower_to_xnnpack(module, inputs, "8da8w")):
        (tmp_path / "p.pte").write_bytes(content)
        assert delegation.delegates == 1
        assert snr_db(run_pte(tmp_path / "p.pte", list(inputs))[0], exact) > 28


def test_observed_ranges_are_the_extremes(layers: tuple[Layers, Tensor]) -> None:
    module, x = layers
    ranges = observe_ranges(module, find_blocks(module), [(x,), (2 * x,)])
    low, high = ranges[module.conv]
    assert float(low) == float(2 * x.min()) and float(high) == float(2 * x.max())
