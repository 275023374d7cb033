"""Which blocks are kept higher: by what they cost the output, and until the program itself is good enough."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export.bundle import Item, describe_model, write_bundle
from export.generator.unet_program import unet_program
from export.mixed_precision.mixed import choices
from export.mixed_precision.search import Goal, find_mixed, levels_above
from export.mixed_precision.sensitivity import Sensitivity, measure_sensitivity
from export.program.parity import snr_db
from export.program.program import Program
from export.quantization.blocks import LayerGroup, find_blocks
from export.quantization.weights import WeightFormat, quantize_weight
from export.targets import find_target
from export.targets.base import Target
from mobilevd.errors import UserError
from tests.export.models import SETTINGS, unet

XNNPACK = find_target("executorch-xnnpack")
LEVELS = ["8da4w", "8da8w", "fp16", "fp32"]


@pytest.fixture(scope="module")
def program() -> Program:
    return unet_program(unet(), SETTINGS)


@pytest.fixture(autouse=True, scope="module")
def measured_once(program: Program) -> Iterator[None]:
    """Every search begins with the same measurement of the same program, so each precision is measured once."""
    known: dict[str, dict[str, float]] = {}

    def cached(asked: Program, target: Target, precisions: list[str], on_block: Any = None) -> list[Sensitivity]:
        assert asked is program and target is XNNPACK
        rounded = [each for each in precisions if each != "fp32"]
        if new := [each for each in rounded if each not in known]:
            measured = measure_sensitivity(program, target, new, on_block)
            known.update({each: {s.block.name: s.sqnr_db[each] for s in measured} for each in new})
        there = set.union(*(set(each) for each in known.values()))  # without those that were folded away
        blocks = [block for block in find_blocks(program.module) if block.name in there]
        found = [Sensitivity(block, {each: known[each][block.name] for each in rounded}) for block in blocks]
        return sorted(found, key=lambda s: s.sqnr_db[precisions[0]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.mixed_precision.search.measure_sensitivity", cached)
        yield


def block(name: str, width: int) -> LayerGroup:
    return LayerGroup(name, {name: nn.Linear(width, width)})


def test_the_block_that_costs_most_per_byte_is_raised_first() -> None:
    noisy = Sensitivity(block("noisy", 64), {"8da4w": 20, "8da8w": 50})
    quiet = Sensitivity(block("quiet", 64), {"8da4w": 40, "8da8w": 60})
    large = Sensitivity(block("large", 640), {"8da4w": 19, "8da8w": 50})
    path = choices([noisy, quiet, large], ["8da4w", "8da8w", "fp32"])
    assert path[0].layers == {} and path[1].layers == {"noisy": "8da8w"}
    assert path[2].layers == {"noisy": "8da8w", "large": "8da8w"}
    assert path[-1].layers == dict.fromkeys(("noisy", "quiet", "large"), "fp32") and path[-1].sqnr_db == math.inf
    assert all(a.sqnr_db < b.sqnr_db and a.size_bytes < b.size_bytes for a, b in zip(path, path[1:], strict=False))
    assert path[0].sqnr_db == pytest.approx(-10 * math.log10(10**-2 + 10**-4 + 10**-1.9))


def test_sensitivity_is_the_outputs_sqnr_with_one_block_rounded(program: Program) -> None:
    measured = {s.block.name: s for s in measure_sensitivity(program, XNNPACK, ["8da8w", "fp32"])}
    everything = [name for b in find_blocks(program.module) for name in b.layers]
    layers = [n for n, m in program.module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert sorted(everything) == sorted(layers), "every layer is in exactly one block"
    name = "conv_out"
    layer = program.module.get_submodule(f"unet.{name}")
    assert isinstance(layer, nn.Conv2d)
    inputs = [tuple(each.values()) for each in program.calibration[:2]]
    with torch.no_grad():
        exact = torch.cat([program.module(*each) for each in inputs])
        weight = layer.weight.data
        layer.weight.data = quantize_weight(weight, WeightFormat(8)).dequantized()
        only_weight = torch.cat([program.module(*each) for each in inputs])
        layer.weight.data = weight
    # the input is rounded as well, so there is more noise than from the weight alone, but of the same order
    assert 0 < snr_db(only_weight, exact) - measured[name].sqnr_db["8da8w"] < 15


def test_a_psnr_is_reached_by_the_program_and_costs_less_than_full_precision(program: Program, tmp_path: Path) -> None:
    mixed = find_mixed(program, XNNPACK, "8da4w", Goal(min_psnr_db=60))
    assert mixed.psnr_db >= 60 and mixed.layers and mixed.base == "8da4w"
    model = describe_model(unet(), SETTINGS, None)
    manifest = write_bundle(
        [Item(program, mixed.base, mixed.layers, 60)], XNNPACK, tmp_path / "b", name="m", model=model
    )
    entry = manifest.programs["unet"]
    assert manifest.precision == "mixed" and entry.layers == mixed.layers
    assert entry.parity.psnr_db is not None
    least = min([entry.parity.psnr_db, *([entry.parity.half.psnr_db] if entry.parity.half else [])])
    assert least == pytest.approx(mixed.psnr_db, abs=1)
    full = write_bundle([Item(program, "fp32")], XNNPACK, tmp_path / "f", name="m", model=model)
    assert 0 < entry.size_mb < 0.6 * full.programs["unet"].size_mb
    raised = [s.block.name for s in mixed.sensitivities if s.block.name in mixed.layers]
    left = [s for s in mixed.sensitivities if s.block.name not in mixed.layers]
    worst_left = min(s.sqnr_db["8da4w"] for s in left)
    assert all(s.sqnr_db["8da4w"] <= worst_left + 12 for s in mixed.sensitivities if s.block.name in raised)


def test_a_size_is_kept_and_used(program: Program) -> None:
    low = find_mixed(program, XNNPACK, "8da8w", Goal(max_size_bytes=10**9))
    assert low.psnr_db > 100  # there is room for everything in full precision
    sizes = [find_mixed(program, XNNPACK, "8da8w", Goal(max_size_bytes=size)).size_bytes for size in (1.6e6, 2.2e6)]
    assert sizes[0] <= 1.6e6 < sizes[1] <= 2.2e6


def test_what_cannot_be_had_is_said(program: Program) -> None:
    with pytest.raises(UserError, match="no mixture of precisions reaches 300 dB PSNR; the best has"):
        find_mixed(program, XNNPACK, "fp16", Goal(min_psnr_db=300))
    with pytest.raises(UserError, match="0.1 MB is less than it has with all blocks in 8da4w"):
        find_mixed(program, XNNPACK, "8da4w", Goal(max_size_bytes=1e5))
    with pytest.raises(UserError, match="cannot both be had: the smallest program found with"):
        find_mixed(program, XNNPACK, "8da4w", Goal(min_psnr_db=90, max_size_bytes=1e6))
    for wrong in ({"min_psnr_db": math.nan}, {"max_size_bytes": 0.0}):
        with pytest.raises(UserError, match="must be a number above 0"):
            Goal(**wrong)
    with pytest.raises(UserError, match="target coreml cannot mix fp16 with higher precisions"):
        levels_above(find_target("coreml"), "fp16")
    assert levels_above(XNNPACK, "8da8w") == ["8da8w", "fp16", "fp32"]
