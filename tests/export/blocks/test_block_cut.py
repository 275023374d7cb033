"""The cut of the UNet into blocks: it is exact, and the same whether a temporal block is there or not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from export.blocks.cut import Piece, cut
from export.blocks.nodes import blocks_of_nodes
from export.generator.unet_program import unet_program
from export.profile.origins import origins_file, read_origins
from export.program.operator_counts import count_operators
from export.program.parity import compare
from export.program.program import Program
from export.targets.executorch_runtime import run_pte
from export.targets.executorch_xnnpack import ExecutorchXnnpack
from mobilevd.model.anatomy import TEMPORAL_RESIDUAL, TEMPORAL_TRANSFORMER
from mobilevd.transforms.temporal_pruning import keep_temporal_blocks
from tests.export.models import SETTINGS, compressed, unet

COMPRESSED = (
    {"kind": "cross_attention"},
    {"kind": "temporal_multiscale", "factor": 2},
    {"kind": "spatial_multiscale", "factor": 2},
    {"kind": "temporal_pruning", "keep": 3},
    {"kind": "funnels", "attention": 0.5, "convolution": 0.5},
)


@pytest.fixture(scope="module")
def uncompressed() -> tuple[Program, list[Piece]]:
    program = unet_program(unet(), SETTINGS)
    return program, cut(program.graph(phone_form=True))


@pytest.fixture(scope="module", params=["uncompressed", "compressed"])
def whole(request: pytest.FixtureRequest, uncompressed: tuple[Program, list[Piece]]) -> tuple[Program, list[Piece]]:
    if request.param == "uncompressed":
        return uncompressed
    program = unet_program(compressed(*COMPRESSED), SETTINGS)
    return program, cut(program.graph(phone_form=True))


def test_the_lowered_blocks_in_turn_are_the_whole(whole: tuple[Program, list[Piece]], tmp_path: Path) -> None:
    program, pieces = whole
    target, transpositions = ExecutorchXnnpack(), Counter[str]()

    def lowered(each: Program, name: str) -> Path:
        file = tmp_path / f"{name}.pte"
        target.lower(each, "fp32", file)
        transpositions[name] += sum(place.kind == "XNNStaticTranspose" for place in read_origins(origins_file(file)))
        return file

    def run(piece: Piece, inputs: list[Tensor]) -> list[Tensor]:
        return run_pte(lowered(piece.program("piece"), "piece"), inputs)

    expected = run_pte(lowered(program, "whole"), program.example)[0]
    graph = program.graph(phone_form=True).graph_signature
    values = dict(zip(map(str, graph.user_inputs), program.example, strict=True))
    for piece in pieces:  # every tensor between them is handed on as it lies in memory
        got = run(piece, [values[edge.node.name].contiguous() for edge in piece.inputs])
        values |= {edge.node.name: value for edge, value in zip(piece.outputs, got, strict=True)}
    output = values[next(iter(map(str, graph.user_outputs)))].reshape(expected.shape)
    assert compare(output, expected).psnr_db >= 120
    assert compare(output, program.references["noise"][0]).psnr_db >= 100
    # what a block reads and writes lies in memory as it does in the whole, so it transposes nothing on its own account
    assert transpositions["piece"] == transpositions["whole"] > 0


def test_every_operator_and_weight_is_in_one_block(whole: tuple[Program, list[Piece]]) -> None:
    program, pieces = whole
    graph = program.graph(phone_form=True)
    counts = count_operators(graph)
    assert sum(piece.flops for piece in pieces) == counts.flops
    nodes = [node for piece in pieces for node in piece.nodes]
    assert len(set(nodes)) == len(nodes) >= counts.operators
    assert len({piece.block for piece in pieces}) == len(pieces)  # no block is torn apart
    total = sum(weight.numel() for weight in program.module.parameters())
    assert 0.9 * total < sum(piece.parameters for piece in pieces) <= total


def test_pruning_takes_away_temporal_blocks_and_nothing_else(uncompressed: tuple[Program, list[Piece]]) -> None:
    model, full = unet(), uncompressed[1]
    names = model.temporal_block_names()
    kept = [names[0], names[3]]
    pruned = cut(unet_program(keep_temporal_blocks(model, kept).eval(), SETTINGS).graph(phone_form=True))
    gone = Counter(piece.key for piece in full if piece.block.temporal and piece.block.name not in kept)
    assert Counter(piece.key for piece in full) - Counter(piece.key for piece in pruned) == gone
    assert {piece.block.name for piece in full if piece.block.temporal} == set(names)
    assert {piece.block.name for piece in pruned if piece.block.temporal} == set(kept)


def test_equal_blocks_have_one_key_and_others_another(uncompressed: tuple[Program, list[Piece]]) -> None:
    pieces = uncompressed[1]
    keys = {(piece.block.kind, piece.block.name): piece.key for piece in pieces}
    first, second = "mid_block.resnets.0", "mid_block.resnets.1"
    assert keys["spatial residual", first] == keys["spatial residual", second]
    assert keys[TEMPORAL_RESIDUAL, first] == keys[TEMPORAL_RESIDUAL, second]
    for key in set(keys.values()):
        same = [piece for piece in pieces if piece.key == key]
        assert len({(piece.flops, piece.parameters, piece.block.kind) for piece in same}) == 1
    wider = cut(unet_program(unet(block_out_channels=(32, 96)), SETTINGS).graph(phone_form=True))
    assert keys["spatial residual", first] not in {piece.key for piece in wider}
    assert keys["conv_in", "conv_in"] in {piece.key for piece in wider}


def test_what_lies_between_blocks() -> None:
    host = "unet.up_blocks.1.attentions.0"
    paths = [
        "",  # concatenation of the inputs
        "unet.conv_in",
        "unet.up_blocks.1",  # with a skip
        "unet.up_blocks.1.resnets.0.spatial_res_block.conv1",
        "unet.up_blocks.1.resnets.0",  # frames to a clip
        "unet.up_blocks.1.resnets.0.temporal_res_block.conv1",
        "unet.up_blocks.1.resnets.0",  # and back
        f"{host}.norm",
        host,
        f"{host}.proj_in",
        f"{host}.transformer_blocks.0.norm1",
        host,
        f"{host}.temporal_transformer_blocks.0.ff.net.2",
        f"{host}.time_mixer",
        host,
        f"{host}.proj_out",
        host,
        "unet.conv_norm_out",
        "",
        "unet.conv_out",
        "",
    ]
    resnet, attention = "up_blocks.1.resnets.0", "up_blocks.1.attentions.0"
    assert [(block.kind, block.name) for block in blocks_of_nodes(paths)] == [
        *[("conv_in", "conv_in")] * 2,
        *[("spatial residual", resnet)] * 2,
        *[(TEMPORAL_RESIDUAL, resnet)] * 3,
        *[("spatial transformer", attention)] * 4,
        *[(TEMPORAL_TRANSFORMER, attention)] * 4,
        *[("transformer output", attention)] * 2,
        *[("conv_out", "conv_out")] * 4,
    ]
    pruned = [path for path in paths if "temporal" not in path and "time_mixer" not in path]
    assert not any(block.temporal for block in blocks_of_nodes(pruned))


def test_random_inputs_have_the_true_shapes(whole: tuple[Program, list[Piece]]) -> None:
    _, pieces = whole
    for piece in pieces[:4]:
        program = piece.program("block")
        assert [tuple(x.shape) for x in program.example] == [edge.dims for edge in piece.inputs]
        assert [tuple(y.shape) for y in program.references["noise"]] == [edge.dims for edge in piece.outputs]
        assert all(bool(torch.isfinite(y).all()) for y in program.references["noise"])
