"""The ONNX target: every precision against the model, and what the file holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor

from device_runner.bundle.manifest import ModelEntry
from export.bundle import Item, write_bundle
from export.generator.one_step import OneStepSettings
from export.generator.unet_program import unet_program
from export.program.program import Program
from export.proof.prove import prove
from export.proof.worst_blocks import worst_blocks
from export.targets.onnx import Onnx, delegation
from export.targets.onnx_graph import files
from export.targets.onnx_graph.capture import capture
from mobilevd.errors import UserError
from mobilevd.model.layers.attention import GEGLU
from mobilevd.model.unet import CROSS_DOWN, CROSS_UP, PLAIN_DOWN, PLAIN_UP, SpatioTemporalUNet
from tests.export.models import plain_unet
from tests.source import ROOT

FRAMES, HEIGHT, WIDTH = 4, 8, 8
SETTINGS = OneStepSettings(HEIGHT, WIDTH, FRAMES)
TARGET = Onnx()


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    unet = SpatioTemporalUNet(
        down_block_types=(CROSS_DOWN, PLAIN_DOWN),
        up_block_types=(PLAIN_UP, CROSS_UP),
        block_out_channels=(32, 64),
        layers_per_block=1,
        num_attention_heads=2,
        cross_attention_dim=16,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        num_frames=FRAMES,
    ).eval()
    for mixer in unet.time_mixers().values():
        mixer.mix_factor.data.normal_()
    real = [{"image_latents": torch.randn(1, 4, 8, 8), "image_embedding": torch.randn(1, 1, 16)} for _ in range(5)]
    return unet_program(unet, SETTINGS, real[0], real[1:])


@pytest.fixture(scope="module", autouse=True)
def captured_once() -> Iterator[None]:
    """A UNet's graph takes seconds to capture, the rest of lowering one: each program is captured once."""
    graphs: dict[int, tuple[Program, Any]] = {}

    def cached(program: Program) -> Any:
        key = id(program.module)
        if key not in graphs:
            graphs[key] = (program, capture(program))  # held, so that no other gets its id
        return graphs[key][1].clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.targets.onnx_graph.capture.capture", cached)
        yield


Lowered = dict[str, tuple[Path, onnx.ModelProto]]


@pytest.fixture(scope="module")
def lowered(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    """The program in each precision: its file, and the graph in it."""
    folder = tmp_path_factory.mktemp("onnx")
    made = {}
    for precision in TARGET.precisions:
        file = folder / f"{precision}.onnx"
        TARGET.lower(program, precision, file)
        made[precision] = (file, onnx.load(file))
    return made


@pytest.mark.parametrize(("precision", "gate"), [("fp32", 100), ("fp16", 50), ("int8", 35)])
def test_every_precision_has_the_models_numbers(
    lowered: Lowered, program: Program, precision: str, gate: float
) -> None:
    for kind, checks in prove(program, TARGET, lowered[precision][0]).items():
        assert all(check.psnr_db >= gate for check in checks), (kind, checks)


def test_the_interface_is_the_programs(lowered: Lowered, program: Program) -> None:
    for _, model in lowered.values():
        inputs = {value.name: value.type.tensor_type for value in model.graph.input}
        assert list(inputs) == list(program.inputs) and [v.name for v in model.graph.output] == list(program.outputs)
        for kind in (*inputs.values(), *(v.type.tensor_type for v in model.graph.output)):
            assert kind.elem_type == onnx.TensorProto.FLOAT
            assert all(size.dim_value > 0 for size in kind.shape.dim)


def weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """All larger initializers."""
    return {i.name: i for i in model.graph.initializer if math.prod(i.dims) >= 512}


def dtypes(model: onnx.ModelProto) -> set[int]:
    return {tensor.data_type for tensor in weights(model).values()}


def test_weights_are_stored_as_said(lowered: Lowered) -> None:
    assert dtypes(lowered["fp32"][1]) == {onnx.TensorProto.FLOAT}
    assert dtypes(lowered["fp16"][1]) == {onnx.TensorProto.FLOAT16}
    size = {
        precision: sum(len(t.raw_data) for t in weights(model).values()) for precision, (_, model) in lowered.items()
    }
    assert size["fp16"] / size["fp32"] == pytest.approx(0.5, abs=0.01)
    assert size["int8"] / size["fp32"] < 0.3  # layers of a single row stay as they are


def test_normalizations_stay_in_float32(lowered: Lowered) -> None:
    model = lowered["fp16"][1]
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    of = {kind: [types[n.output[0]] for n in model.graph.node if n.op_type == kind] for kind in ("Conv", "MatMul")}
    norms = [types[n.output[0]] for n in model.graph.node if n.op_type.endswith("Normalization")]
    assert norms and set(norms) == {onnx.TensorProto.FLOAT}
    assert all(set(each) == {onnx.TensorProto.FLOAT16} for each in of.values())


def quantized(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, bool]]:
    """Convolutions and products with a weight (an initializer, or one from behind a DequantizeLinear)."""
    behind = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    constant = {i.name for i in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            weight = behind.get(node.input[1])
            if weight is not None or node.input[1] in constant:
                yield node, weight is not None and weight.input[0] in constant and node.input[0] in behind


def test_convolutions_and_linear_layers_are_quantized_per_channel(lowered: Lowered) -> None:
    model = lowered["int8"][1]
    layers = list(quantized(model))
    assert all(done for node, done in layers if node.op_type == "Conv")
    linears = [done for node, done in layers if node.op_type != "Conv"]
    assert sum(linears) > 20 and sum(linears) / len(linears) > 0.8  # the others have a single row
    behind = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    initializers = {i.name: i for i in model.graph.initializer}
    for node, done in layers:
        if done:
            weight, scale, zero = (initializers[name] for name in behind[node.input[1]].input)
            assert weight.data_type == onnx.TensorProto.INT8
            assert math.prod(scale.dims) == weight.dims[0 if node.op_type == "Conv" else 1]
            assert not onnx.numpy_helper.to_array(zero).any()
    # the softmax and the norms take float32, and so do attention's products, which are of no weight
    given = {
        name for node in model.graph.node if node.op_type in ("Softmax", "LayerNormalization") for name in node.input
    }
    assert not given & set(behind)


def scoped_precision(program: Program, layers: dict[str, str], file: Path, precision: str) -> onnx.ModelProto:
    TARGET.lower(program, precision, file, layers)
    checks = prove(program, TARGET, file)
    assert all(check.psnr_db >= 35 for each in checks.values() for check in each)
    return onnx.load(file)


def test_layers_can_have_another_precision(lowered: Lowered, program: Program, tmp_path: Path) -> None:
    before = {node.name: done for node, done in quantized(lowered["int8"][1])}
    layers = {"conv_in": "fp32", "up_blocks.0": "fp16", "up_blocks.0.resnets.0": "fp32"}
    model = scoped_precision(program, layers, tmp_path / "a.onnx", "int8")
    after = {node.name: done for node, done in quantized(model)}
    kept = {name for name in before if before[name] and not after[name]}
    modules = dict(program.module.named_modules())
    part = modules["unet.up_blocks.0"]
    expected = 1 + sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in part.modules())
    assert kept and len(kept) <= expected and any(n.name in kept and n.op_type == "Conv" for n in model.graph.node)
    halves = {i.name for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT16}
    floats = {i.name for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    assert any("up_blocks.0.resnets.1" in name for name in halves)
    assert not any("up_blocks.0.resnets.0" in name for name in halves)
    assert "unet.conv_in.weight" in floats

    other = scoped_precision(program, {"down_blocks": "int8"}, tmp_path / "b.onnx", "fp16")
    assert {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8} <= dtypes(other)
    assert 0 < sum(done for _, done in quantized(other)) < sum(before.values())


class Small(torch.nn.Module):
    """A feed-forward part: what can be looked at whole, and captured in a second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GEGLU(32, 64), torch.nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def small_program(scale: float = 1.0) -> Program:
    torch.manual_seed(0)
    module, x = Small().eval().requires_grad_(False), torch.randn(16, 32)
    calibration = [{"x": scale * torch.randn(16, 32)} for _ in range(4)]
    return Program("small", module, {"noise": {"x": x}}, {"noise": [module(x)]}, ("y",), calibration)


def test_wrong_layers_and_precisions_are_refused(tmp_path: Path) -> None:
    program, file = small_program(), tmp_path / "small.onnx"
    with pytest.raises(UserError, match=r"no layer of the program is named 'firsts'.*first, second"):
        TARGET.lower(program, "int8", file, {"firsts": "fp32"})
    with pytest.raises(UserError, match="layer first: onnx has no precision '8da4w'; it has fp32, fp16, int8"):
        TARGET.lower(program, "int8", file, {"first": "8da4w"})
    with pytest.raises(UserError, match="onnx has no precision 'fp8'"):
        TARGET.lower(program, "fp8", file)
    with pytest.raises(UserError, match="int8 needs calibration inputs"):
        TARGET.lower(replace(program, calibration=()), "int8", file)
    assert not list(tmp_path.iterdir())


def test_ranges_come_from_the_calibration_inputs(tmp_path: Path) -> None:
    program = small_program(scale=10.0)
    TARGET.lower(program, "int8", tmp_path / "small.onnx")
    model = onnx.load(tmp_path / "small.onnx")
    initializers = {i.name: i for i in model.graph.initializer}
    first = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x")
    scale = float(onnx.numpy_helper.to_array(initializers[first.input[1]]))
    seen = torch.cat([inputs["x"] for inputs in program.calibration])
    assert scale == pytest.approx(float(seen.max() - seen.min()) / 255, rel=0.01)


def test_large_weights_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the bundle, which lists both files and counts both sizes."""
    monkeypatch.setattr(files, "EXTERNAL_ABOVE_BYTES", 2**12)
    for precision in TARGET.precisions:
        items = [Item(small_program(), precision)]
        manifest = write_bundle(items, TARGET, tmp_path / precision, name="test", model=ModelEntry())
        sizes = {name: entry.size_bytes for name, entry in manifest.files.items() if name.startswith("small")}
        assert set(sizes) == {"small.onnx", "small.onnx.data"} and sizes["small.onnx.data"] > 2**12
        assert manifest.programs["small"].size_bytes == sum(sizes.values())
        assert not [path for path in (tmp_path / precision).iterdir() if path.name.startswith(".tmp")]
    monkeypatch.undo()
    TARGET.lower(small_program(), "fp32", tmp_path / "fp32" / "small.onnx")
    assert not (tmp_path / "fp32" / "small.onnx.data").exists(), "the old weights are of no use beside a whole file"


def test_no_weight_is_copied_by_the_capture() -> None:
    """At SVD's size every copy is 5 GB: weights, transposed and split ones too, are the module's own memory."""
    program = small_program()
    own = {p.untyped_storage().data_ptr() for p in program.module.parameters()}
    held: list[Any] = [v.const_value for v in capture(program).graph.initializers.values()]
    large = [tensor.raw for tensor in held if tensor.nbytes >= 2048]
    assert len(large) == 3 and all(weight.untyped_storage().data_ptr() in own for weight in large)


def test_the_whole_graph_is_one_delegate_and_tells_nothing_of_this_machine(lowered: Lowered) -> None:
    for file, model in lowered.values():
        found = delegation(model)
        assert (found.delegates, found.operators_outside, found.flops_share) == (1, [], 1.0)
        assert found.operators_inside == len(model.graph.node) > 100
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
        assert str(ROOT).encode() not in file.read_bytes()


def test_operators_of_other_domains_are_outside() -> None:
    nodes = [
        onnx.helper.make_node("Odd", ["x"], ["y"], domain="elsewhere"),
        onnx.helper.make_node("Relu", ["y"], ["z"]),
    ]
    found = delegation(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [])))
    assert [o.op for o in found.operators_outside] == ["elsewhere::Odd"] and found.operators_inside == 1


def test_exporting_is_quiet_and_repeats_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        TARGET.lower(small_program(), "int8", tmp_path / f"{name}.onnx")
    TARGET.run(tmp_path / "a.onnx", small_program().example, threads=1)
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_the_blocks_that_lose_most_can_be_named() -> None:
    torch.manual_seed(0)
    real = [{"image_latents": torch.randn(1, 4, 8, 8), "image_embedding": torch.randn(1, 1, 16)} for _ in range(5)]
    program = unet_program(plain_unet(), SETTINGS, real[0], real[1:])
    losses = worst_blocks(program, TARGET, "int8", {"conv_in": "fp32"})
    assert {loss.name for loss in losses} >= {"mid_block.resnets.0", "up_blocks.0.resnets.0"}
    assert all(loss.snr_db > 20 for loss in losses)
