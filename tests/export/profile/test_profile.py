"""The profile of a program: what ExecuTorch's trace tells of every operator, and where in the model each belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

from export.profile.locate import by_block, by_part, locate
from export.profile.origins import Origin, origins_file, read_origins, write_origins
from export.profile.trace import Event, by_operator, profile_program, read_trace, trace_program
from export.program.program import Program
from export.targets.xnnpack.graph import GraphBuilder
from export.targets.xnnpack.lowering import lower_to_file, origins_of, translate
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
    paths = locate(trace.events, origins_of(graph))
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


NORM = (
    Origin("XNNConv2d", "a"),
    Origin("XNNStaticReshape", "a"),
    Origin("XNNSquare", "b"),
    Origin("XNNGlobalAvgPooling2d", "b"),
    Origin("XNNAdd", "b"),
)


def test_what_xnnpack_joins_or_drops_is_counted_to_the_next_operator() -> None:
    events = [Event("Fully Connected (NC, F32) GEMM", 1), Event("Mean Squared (ND) Reduce2", 1), Event("Add (ND)", 1)]
    assert locate(events, NORM) == ["a", "b", "b"]
    with_mean = [events[0], Event("Static Reshape (NC)", 1), events[1], Event("Mean (ND) Reduce2", 1), events[2]]
    assert locate(with_mean, NORM) == ["a", "b", "b", "b", "b"]


def test_another_order_than_the_graphs_is_not_guessed_at() -> None:
    events = [Event("Add (ND)", 1), Event("Convolution (NHWC, F32) IGEMM", 1), Event("Square (NC)", 1)]
    assert locate(events, NORM) is None


def test_an_operator_that_comes_early_keeps_its_own_place() -> None:
    """As XNNPACK sorts a graph into which it put conversions: what depends on an input alone comes first."""
    layers = [Origin("XNNFullyConnected", f"layer{i}") for i in range(40)]
    places = [
        *layers[:20],
        Origin("XNNGelu", "gelu"),
        *layers[20:],
        Origin("XNNSoftmax", "late"),
        Origin("XNNAdd", "end"),
    ]
    names = {"XNNFullyConnected": "Fully Connected (NC, F32) GEMM", "XNNGelu": "GELU (NC)", "XNNAdd": "Add (ND)"}
    events = [Event(names.get(place.kind, "Softmax (NC, F32)"), 1.0) for place in places]
    early = [*events[:3], events[-2], *events[3:-2], events[-1]]
    paths = [place.path for place in places]
    assert locate(early, places) == [*paths[:3], "late", *paths[3:-2], "end"]
    others = [Origin("XNNFullyConnected", "a"), Origin("XNNGelu", "b")] * 20
    assert locate(sorted(Event(names[place.kind], 1.0) for place in others), others) is None  # half of them moved


def test_places_are_written_and_read_whole(lowered: tuple[Path, GraphBuilder], tmp_path: Path) -> None:
    places = origins_of(lowered[1])
    file = origins_file(tmp_path / "unet.pte")
    write_origins(file, places)
    assert file.name == "unet.places.json" and read_origins(file) == places
    assert file.stat().st_size < 20 * len(places) + 10_000


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "does not hold"),
        ('{"schema_version": 2}', "this program reads version 1"),
        ('{"schema_version": 1, "kinds": [], "paths": [], "nodes": [[0, 0]]}', "does not hold"),
        ('{"schema_version": 1, "kinds": {}, "paths": 3, "nodes": 4}', "does not hold"),
    ],
)
def test_places_that_are_none_are_refused(content: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "unet.places.json"
    file.write_text(content)
    with pytest.raises(UserError, match=what):
        read_origins(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_origins(tmp_path / "absent.json")


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
    others = ["decoder.up_blocks.1.resnets.0.conv1", "decoder.mid_block.norm", "decoder.conv_out", "layers.3.conv"]
    assert [row.operator for row in by_block(events, [*others, "", ""])] == [
        "up_blocks.1",
        "mid_block",
        "decoder",
        "layers",
        "the rest",
    ]
    assert by_operator(events) == [("x", len(paths), sum(event.ms for event in events))]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such program"):
        profile_program(tmp_path / "absent.pte", [], threads=1)


def test_a_trace_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such trace"):
        read_trace(tmp_path / "absent.etdump", 3)
    file = tmp_path / "trace.etdump"
    for content in (b"", b"not a trace at all", bytes(range(256)) * 4):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"trace\.etdump: (cannot be read as an ETDump|the trace must hold)"):
            read_trace(file, 3)
