"""The places that a bundle keeps, against real traces of a UNet in every precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from device_runner.bundle.manifest import ModelEntry
from export.bundle import Item, write_bundle
from export.generator.unet_program import unet_program
from export.profile.locate import by_block, by_part, locate
from export.profile.origins import read_origins
from export.profile.trace import Profile, trace_program
from export.program.program import Program
from export.targets.executorch_xnnpack import ExecutorchXnnpack
from tests.export.models import SETTINGS, unet

MIXED = {"mid_block": "fp16", "down_blocks.0": "fp32"}
CASES = {
    "fp32": ("fp32", {}),
    "fp16": ("fp16", {}),
    "int8": ("int8", {}),
    "8da8w": ("8da8w", {}),
    "8da4w": ("8da4w", {}),
    "mixed": ("8da4w", MIXED),
}


@pytest.fixture(scope="module")
def program() -> Program:
    made = unet_program(unet(), SETTINGS)
    return replace(made, calibration=made.calibration[:1])


@pytest.mark.parametrize("case", CASES)
def test_every_operator_is_placed(case: str, program: Program, tmp_path: Path) -> None:
    precision, layers = CASES[case]
    item = Item(program, precision, layers)
    manifest = write_bundle(
        [item], ExecutorchXnnpack(), tmp_path / "b", name="t", model=ModelEntry(), allow_low_parity=True
    )
    entry = manifest.programs["unet"]
    assert entry.places is not None and entry.places in manifest.files
    trace = trace_program(tmp_path / "b" / entry.file, program.example, threads=1, runs=2)
    paths = locate(trace.events, read_origins(tmp_path / "b" / entry.places))
    assert paths is not None and len(paths) == len(trace.events)
    assert set(paths) <= set(dict(program.module.named_modules()))
    blocks = {row.operator: row.count for row in by_block(trace.events, paths)}
    expected = {"conv_in", "down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1", "conv_out"}
    assert expected <= set(blocks) and sum(blocks.values()) == len(trace.events)
    assert {"spatial attention", "temporal attention", "resampling"} <= {
        row.operator for row in by_part(trace.events, paths)
    }
    check_kinds(trace, paths, exact=case not in ("fp16", "mixed"))


def check_kinds(trace: Profile, paths: list[str], exact: bool) -> None:
    """Operators that only one kind of module has are in such a module.

    Where half precision makes XNNPACK sort the graph anew, those that came early (of the image token) may be exchanged
    with a neighbour in their block.
    """
    homes = (("Softmax", ".attn1"), ("Batch Matrix", ".attn1"), ("GELU", ".ff"), ("Convolution", "conv"))
    wrong = [
        event
        for event, path in zip(trace.events, paths, strict=True)
        for start, home in homes
        if event.operator.startswith(start) and home not in path
    ]
    assert len(wrong) <= (0 if exact else 0.01 * len(trace.events)), wrong
