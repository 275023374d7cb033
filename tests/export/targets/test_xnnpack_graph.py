"""The translation to XNNPACK's graph: views of memory, every operator's numbers, and what is not computed at all."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import export

from export.targets.executorch_runtime import run_pte
from export.targets.xnnpack import lower_by_partitioner
from export.targets.xnnpack.graph import GraphBuilder
from export.targets.xnnpack.lowering import translate
from mobilevd.model.layers.architecture import Architecture
from mobilevd.model.layers.ops import set_phone_form
from mobilevd.model.layers.resnet import SpatioTemporalResBlock
from tests.export.lowered import lower_to_xnnpack

SHAPE = (2, 1, 6, 4)


def memory_of(g: GraphBuilder, source: np.ndarray) -> dict[int, np.ndarray]:
    """What XNNPACK would hold in each value, for a graph of reshapes and transpositions of one input."""
    held = {g.input_ids[0]: source}
    for node in g.nodes:
        op = node.xnode_union
        if isinstance(op, schema.XNNStaticReshape):
            held[op.output_id] = held[op.input_id].reshape(op.new_shape)
        elif isinstance(op, schema.XNNCopy):
            held[op.output_id] = held[op.input_id]
        else:
            assert isinstance(op, schema.XNNStaticTranspose)
            held[op.output_id] = held[op.input_id].transpose(op.perm)
        assert held[op.output_id].shape == g.dims_of(op.output_id)
    return held


# shapes of rank 1 to 5, of as many elements as SHAPE: each prime factor is put at one of the axes
PRIMES = (2, 2, 2, 2, 3)
SHAPES = st.lists(st.integers(0, 4), min_size=len(PRIMES), max_size=len(PRIMES)).map(
    lambda axes: [math.prod(p for p, at in zip(PRIMES, axes, strict=True) if at == i) for i in range(max(axes) + 1)]
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_views_of_memory_mean_what_pytorch_means(data: st.DataObject) -> None:
    """Any sequence of permutations and reshapes, read back through the graph, is PyTorch's."""
    g = GraphBuilder()
    expected = np.arange(math.prod(SHAPE)).reshape(SHAPE)
    source, value = expected, g.input(SHAPE)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            axes = data.draw(st.permutations(range(expected.ndim)))
            expected, value = expected.transpose(axes), g.permute(value, axes)
        else:
            shape = data.draw(SHAPES)
            expected, value = expected.reshape(shape), g.reshape(value, shape)
        assert value.shape == expected.shape
    g.output(value)
    assert np.array_equal(memory_of(g, source)[g.output_ids[0]], expected)


def test_permutations_and_reshapes_that_memory_allows_cost_nothing() -> None:
    """The temporal layers' detour: channels-last frames, all pixels in one axis, frames in the middle, and back."""
    g = GraphBuilder()
    frames = g.permute(g.input((8, 4, 6, 32)), (0, 3, 1, 2))  # (T, C, H, W), channels last in memory
    clip = g.permute(g.reshape(frames, (1, 8, 32, 24)), (0, 2, 1, 3))  # (1, C, T, H*W)
    tokens = g.reshape(g.permute(clip, (0, 3, 2, 1)), (24, 8, 32))  # (H*W, T, C)
    assert tokens.order == (1, 0, 2) and clip.dims == (1, 8, 24, 32) and not g.nodes


class Operators(nn.Module):
    """Every operator that is supported, on small tensors; a name for each output."""

    zeros: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.temporal = nn.Conv2d(4, 4, (3, 1), padding=(1, 0))
        self.linear = nn.Linear(8, 5)
        self.register_buffer("zeros", torch.zeros(6))
        assert self.conv.bias is not None
        self.conv.bias.data.zero_()  # the same bytes as `zeros`, which another operator reads

    def results(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        tokens = x.reshape(2, 4, 48).transpose(1, 2)  # (2, 48, 4)
        scores = torch.bmm(tokens[:, :6] * 0.3, tokens[:, 6:12].transpose(1, 2))
        rows = torch.cat([x, -x, x * x, x, y * x, x.exp(), x + 1], dim=1)
        return {
            "convolution": self.conv(x) + self.zeros.reshape(1, 6, 1, 1),
            "temporal convolution": self.temporal(x),
            "strided and padded": F.conv2d(x, self.conv.weight, None, 1, (2, 0)),
            "linear": self.linear(x),
            "linear after a transposition": F.linear(x.transpose(1, 3), self.conv.weight[:, :, 0, 0]),
            "softmax": torch.softmax(scores, dim=-1),
            "product": torch.bmm(scores, tokens[:, :6]),
            "mean over pixels": x.mean((2, 3), keepdim=True),
            "mean over channels": x.mean((1,), keepdim=False),
            "mean over separate axes": x.mean((1, 3), keepdim=True),
            "average pooling": F.avg_pool2d(x, 2),
            "broadcast": x * y[:, :, :1, :1] - y / (x * x + 2),
            "of constants": (self.zeros + 2).sum() * x,
            "silu, gelu, tanh": F.silu(x) + F.gelu(x) * torch.tanh(x),
            "roots": torch.rsqrt(x * x + 1) + torch.sqrt(x**2 + 1) + torch.sigmoid(x),
            "seven in one": rows,
            "every second": x[:, :, ::2, ::2] + 1,
            "halves": x.chunk(2, dim=2)[1] - x.split([4, 2], dim=2)[0][:, :, :3],
            "one of them": x[:, 1] * 2,
            "expanded": y[:, :1].expand(-1, 3, -1, -1),
            "flattened": x.flatten(1, 2).unsqueeze(1) * 3,
            "clamped": F.relu(x) + x.clamp(-0.5, 0.3) * x.clamp(min=0.1),
            "padded": F.pad(x.transpose(1, 3), (0, 1, 2, 0)) + F.pad(x.permute(0, 3, 2, 1), (1, 0, 0, 2), value=0.5),
            "heads": x.reshape(2, 2, 2, 48).permute(0, 3, 1, 2).reshape(2, 48, 4) + 1,
        }

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.results(x, y).values())


def run(module: nn.Module, inputs: list[Tensor], folder: Path) -> list[Tensor]:
    (folder / "program.pte").write_bytes(lower_to_xnnpack(module, inputs)[0])
    return run_pte(folder / "program.pte", inputs)


def test_every_operator_gives_pytorchs_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, inputs = Operators().eval(), [torch.randn(2, 4, 6, 8), torch.randn(2, 4, 6, 8)]
    with torch.no_grad():
        expected = module.results(*inputs)
    for (name, reference), output in zip(expected.items(), run(module, inputs, tmp_path), strict=True):
        torch.testing.assert_close(output, reference, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def test_an_input_and_the_same_tensor_twice_may_be_outputs(tmp_path: Path) -> None:
    class Through(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.transpose(0, 1), x + 1

    x = torch.randn(3, 5)
    first, second = run(Through(), [x], tmp_path)
    assert torch.equal(first, x.T) and torch.equal(second, x + 1)


def test_what_depends_on_constants_alone_is_computed_at_export() -> None:
    class Constants(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 8))

        def forward(self, x: Tensor) -> Tensor:
            low, high = (self.weight.sigmoid() * torch.arange(8).cos()).chunk(2)
            return F.linear(x, high) + F.linear(x, low)

    g = translate(export(Constants(), (torch.randn(3, 8),)))
    assert [type(node.xnode_union).__name__ for node in g.nodes] == ["XNNFullyConnected", "XNNFullyConnected", "XNNAdd"]


def test_a_residual_block_keeps_its_layout() -> None:
    """Frames with channels last in memory go through convolutions, norms and time without a transposition."""
    block = SpatioTemporalResBlock("block", 32, 64, 16, 1e-5, Architecture())
    set_phone_form(block)

    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block
            self.register_buffer("embedding", torch.zeros(1, 16))

        def forward(self, x: Tensor) -> Tensor:
            return self.block(x.permute(0, 3, 1, 2), self.embedding, 4).permute(0, 2, 3, 1)

    with torch.no_grad():
        g = translate(export(Frames(), (torch.randn(4, 4, 8, 32),)))
    assert len(g.nodes) > 50 and not any(isinstance(n.xnode_union, schema.XNNStaticTranspose) for n in g.nodes)


def test_a_constant_is_stored_once_for_each_use() -> None:
    g = GraphBuilder()
    ones = torch.ones(3, 2)
    assert g.weight(ones, "linear") == g.weight(torch.ones(3, 2), "linear") != g.weight(ones, "conv")
    assert len(g.store.get_named_data_store_output().pte_data) == 2
    # an operand that is read at every run is no weight: it comes from the program, as an input of the delegate
    assert g.constant(ones) == g.constant(torch.ones(3, 2)) not in (g.weight(ones, "linear"), g.weight(ones, "conv"))
    assert len(g.store.get_named_data_store_output().pte_data) == 2 and len(g.unpacked) == 1


def test_a_rank_above_six_is_refused() -> None:
    g = GraphBuilder()
    with pytest.raises(ValueError, match="at most 6 dimensions"):
        g.with_dims(g.input((64,)), (2, 2, 2, 2, 2, 2, 1))


def test_the_slow_way_leaves_operators_outside_and_they_are_counted() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cumsum(torch.sigmoid(x), dim=1) * x

    delegation = lower_by_partitioner(export(Odd(), (torch.randn(2, 3),)))[1].entry()
    assert delegation.delegates == 2
    (outside,) = [o for o in delegation.operators_outside or () if "cumsum" in o.op]
    assert outside.count == 1 and (2, 3) in outside.shapes[0]
