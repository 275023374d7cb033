"""The profile of a program: what ExecuTorch's trace tells of every operator, and where in the model each belongs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

from export.profile import Event, by_operator, profile_program, trace_program
from export.profile_places import by_block, by_part, locate
from export.program import Program
from export.xnnpack.graph import GraphBuilder
from export.xnnpack.lowering import lower_to_file, translate
from mobilevd.errors import UserError

RUNS = 2


@pytest.fixture(scope="module")
def lowered(small_program: Program, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GraphBuilder]:
    graph = small_program.graph(phone_form=True)
    file = tmp_path_factory.mktemp("profile") / "blocks.pte"
    lower_to_file(graph, file)
    with torch.no_grad():
        return file, translate(graph)


def count(graph: GraphBuilder, *kinds: type[Any]) -> int:
    return sum(isinstance(node.xnode_union, kinds) for node in graph.nodes)


def test_every_operator_of_the_delegate_has_a_time(
    small_program: Program, lowered: tuple[Path, GraphBuilder], capfd: pytest.CaptureFixture[str]
) -> None:
    file, graph = lowered
    rows = profile_program(file, small_program.example, threads=1, runs=RUNS)
    assert [row.ms for row in rows] == sorted((row.ms for row in rows), reverse=True)
    counts = {row.operator: row.count for row in rows}
    layers = [counts[name] for name in counts if name.startswith(("Convolution", "Fully Connected"))]
    assert sum(layers) == count(graph, schema.XNNConv2d, schema.XNNFullyConnected)
    assert counts["Softmax (NC, F32)"] == count(graph, schema.XNNSoftmax) > 0
    total = sum(row.ms for row in rows)
    assert total > 0 and sum(row.ms / total for row in rows) == pytest.approx(1)
    assert not capfd.readouterr().err  # the runtime tells what it knows of the processor


def test_operators_together_take_no_longer_than_the_program(
    small_program: Program, lowered: tuple[Path, GraphBuilder]
) -> None:
    trace = trace_program(
        lowered[0], small_program.example, threads=1, runs=1
    )  # medians of several runs need not add up
    assert trace.total_ms > 0 and trace.unaccounted_ms > 0


def test_every_operator_has_its_module(small_program: Program, lowered: tuple[Path, GraphBuilder]) -> None:
    file, graph = lowered
    assert len(graph.labels) == len(graph.nodes)
    trace = trace_program(file, small_program.example, threads=1, runs=RUNS)
    paths = locate(trace.events, graph)
    assert paths is not None
    modules = dict(small_program.module.named_modules())
    assert set(paths) <= set(modules)
    first, *_, last = [path for event, path in zip(trace.events, paths, strict=True) if "Conv" in event.operator]
    assert (first, last) == ("conv_in", "conv_out")
    for event, path in zip(trace.events, paths, strict=True):
        if "Batch Matrix" in event.operator or "Softmax" in event.operator:
            assert ".attn1" in path
        if "GELU" in event.operator:
            assert ".ff" in path
    assert {row.operator for row in by_block(trace.events, paths)} >= {"conv_in", "resnet", "transformer", "conv_out"}
    assert sum(row.count for row in by_part(trace.events, paths)) == len(trace.events)


def fake_graph(*nodes: tuple[str, str]) -> GraphBuilder:
    """A graph of which only the kinds of its nodes matter, each from a module."""
    made = [SimpleNamespace(xnode_union=type(kind, (), {})()) for kind, _ in nodes]
    return cast(GraphBuilder, SimpleNamespace(nodes=made, labels=[path for _, path in nodes]))


NORM = (
    ("XNNConv2d", "a"),
    ("XNNStaticReshape", "a"),
    ("XNNSquare", "b"),
    ("XNNGlobalAvgPooling2d", "b"),
    ("XNNAdd", "b"),
)


def test_what_xnnpack_joins_or_drops_is_counted_to_the_next_operator() -> None:
    events = [Event("Fully Connected (NC, F32) GEMM", 1), Event("Mean Squared (ND) Reduce2", 1), Event("Add (ND)", 1)]
    assert locate(events, fake_graph(*NORM)) == ["a", "b", "b"]
    with_mean = [events[0], Event("Static Reshape (NC)", 1), events[1], Event("Mean (ND) Reduce2", 1), events[2]]
    assert locate(with_mean, fake_graph(*NORM)) == ["a", "b", "b", "b", "b"]


def test_another_order_than_the_graphs_is_not_guessed_at() -> None:
    events = [Event("Add (ND)", 1), Event("Convolution (NHWC, F32) IGEMM", 1), Event("Square (NC)", 1)]
    assert locate(events, fake_graph(*NORM)) is None


def test_blocks_and_parts_of_the_unet() -> None:
    paths = [
        "unet.down_blocks.0.resnets.1.spatial_res_block.conv1",
        "unet.down_blocks.0.resnets.1.temporal_res_block.norm1",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.attend",
        "unet.mid_block.attentions.0.temporal_transformer_blocks.0.ff.net.2",
        "unet.conv_out",
        "",
    ]
    events = [Event("x", 2.0**-index) for index in range(len(paths))]
    blocks = [(row.operator, row.count) for row in by_block(events, paths)]
    assert blocks == [("down_blocks.0", 2), ("mid_block", 2), ("conv_out", 1), ("the rest", 1)]
    assert [row.operator for row in by_part(events, paths)] == [
        "residual block, spatial",
        "residual block, temporal",
        "spatial attention",
        "temporal transformer, the rest",
        "the rest",
    ]
    assert by_operator(events) == [("x", len(paths), sum(event.ms for event in events))]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such program"):
        profile_program(tmp_path / "absent.pte", [], threads=1)
