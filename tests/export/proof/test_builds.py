"""The proof in the runtime as applications build it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.bundle import export_bundle
from export.generator.unet_program import unet_program
from export.program.program import Program
from export.proof.builds import BUILDS, BuildUnavailable, prove_in_builds
from export.targets import find_target
from export.targets.executorch_runtime import run_pte
from export.targets.xnnpack import lower_by_partitioner, lower_to_file
from mobilevd.errors import UserError
from mobilevd.pipeline.builds import run_in_build
from tests.export.models import SETTINGS, compressed, plain_unet

XNNPACK = find_target("executorch-xnnpack")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "8da8w", "8da4w"])
def test_a_unet_is_right_with_and_without_weight_cache_mapped_and_read(precision: str, tmp_path: Path) -> None:
    manifest = export_bundle(
        compressed({"kind": "cross_attention"}),
        tmp_path / "b",
        SETTINGS,
        name="t",
        precision=precision,
        run_in_build=run_in_build,
    )
    parity = manifest.programs["unet"].parity
    assert {(each.load_mode, each.weight_cache) for each in parity.builds} == {
        ("mmap", "off"),
        ("file", "off"),
        ("mmap", "on"),
        ("file", "on"),
    }
    assert parity.psnr_db is not None and len({each.psnr_db for each in parity.builds}) == 1
    assert parity.builds[0].psnr_db == pytest.approx(parity.psnr_db, abs=3)


class Affine(nn.Module):
    """A layer, and constants that are read at every run: elementwise, broadcast, scalar, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.scale, self.shift = nn.Parameter(torch.randn(6, 1, 1)), nn.Parameter(torch.randn(1, 6, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) * self.scale + self.shift
        return torch.cat([y - 0.25, self.shift.expand(2, -1, -1, -1)], dim=1)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "8da8w"])
def test_constants_outlive_the_weight_cache(precision: str, tmp_path: Path) -> None:
    module, x = Affine().eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        exact = module(x)
        lower_to_file(torch.export.export(module, (x,)), tmp_path / "p.pte", precision)
    (here,) = run_pte(tmp_path / "p.pte", [x])
    for build in BUILDS:
        (got,) = run_in_build(tmp_path / "p.pte", [x], 1, build.load_mode, build.weight_cache)
        assert torch.equal(got.reshape(here.shape), here), str(build)
    assert float((here - exact).abs().max()) < 0.1


def program_of(module: nn.Module, x: Tensor) -> Program:
    with torch.no_grad():
        return Program("p", module, {"noise": {"x": x}}, {"noise": [module(x)]}, ("y",))


def test_a_program_that_dies_with_the_weight_cache_is_refused(tmp_path: Path) -> None:
    """ExecuTorch's own lowering leaves such constants to the cache, which frees them (pull request 22779)."""

    class Prelu(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(0.1, 0.9, 64))

        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.prelu(x, self.weight)

    module, x = Prelu().eval(), torch.randn(1, 64, 64, 64)
    with torch.no_grad():
        (tmp_path / "p.pte").write_bytes(lower_by_partitioner(torch.export.export(module, (x,)))[0])
    (here,) = run_pte(tmp_path / "p.pte", [x])
    with torch.no_grad():
        torch.testing.assert_close(here, module(x))
    program = program_of(module, x)
    with pytest.raises(
        UserError, match=r"not in an application's \(loaded by \w+, weight cache on\).*nothing was written"
    ):
        prove_in_builds(program, XNNPACK, tmp_path / "p.pte", run_in_build, 60, allow_low_parity=False)
    checks = prove_in_builds(program, XNNPACK, tmp_path / "p.pte", run_in_build, 60, allow_low_parity=True)
    assert [each.psnr_db > 60 for each in checks] == [True, True, False, False]


def test_without_a_compiler_the_reason_is_told(tmp_path: Path) -> None:
    def none(file: Path, inputs: Sequence[Tensor], outputs: int, mode: str, cache: str) -> list[Tensor]:
        raise BuildUnavailable("the runner cannot be built here: no C++ compiler")

    parity = export_bundle(plain_unet(), tmp_path / "b", SETTINGS, name="t", run_in_build=none).programs["unet"].parity
    assert parity.builds == () and parity.builds_reason == "not tried: the runner cannot be built here: no C++ compiler"
    assert parity.executed_here


def test_wrong_outputs_in_a_build_are_refused(tmp_path: Path) -> None:
    program = unet_program(plain_unet(), SETTINGS)

    def wrong(file: Path, inputs: Sequence[Tensor], outputs: int, mode: str, cache: str) -> list[Tensor]:
        reference = program.references["noise"][0]
        return [reference + (0.1 * reference.std() if (mode, cache) == ("file", "on") else 0)]

    with pytest.raises(
        UserError, match=r"loaded by file, weight cache on\): its outputs are .* dB PSNR .* below 100 dB"
    ):
        prove_in_builds(program, XNNPACK, tmp_path, wrong, 100, allow_low_parity=False)
    checks = prove_in_builds(program, XNNPACK, tmp_path, wrong, 100, allow_low_parity=True)
    assert np.argmin([each.psnr_db for each in checks]) == 3
