"""The proof in the runtime as applications build it: loaded in either way, with and without XNNPACK's weight cache.

ExecuTorch's builds for Android and Apple switch the cache on, the Python package's runtime leaves it off, and a program
can be right in one and crash in the other. A crash must not take the export with it, so the programs are run by another
process, which the caller supplies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from device_runner.bundle.manifest import BuildCheck
from export.program.parity import MAX_DB, compare
from export.program.program import Program
from export.targets.base import Target
from mobilevd.errors import UserError

RunInBuild = Callable[[Path, Sequence[Tensor], int, str, str], list[Tensor]]
"""Runs a program file on inputs in another process; further arguments are the number of outputs, the load mode ("mmap",
"file") and the weight cache ("on", "off").

Raises `BuildUnavailable` if there is no such build here, UserError if the program fails in it.
"""


class BuildUnavailable(Exception):
    """The reason why no other build can be tried on this machine."""


@dataclass(frozen=True)
class Build:
    """A way in which applications run programs."""

    load_mode: str
    weight_cache: str

    def __str__(self) -> str:
        return f"loaded by {self.load_mode}, weight cache {self.weight_cache}"


BUILDS = tuple(Build(mode, cache) for cache in ("off", "on") for mode in ("mmap", "file"))


def prove_in_builds(
    program: Program, target: Target, file: Path, run: RunInBuild, gate_db: float, allow_low_parity: bool
) -> tuple[BuildCheck, ...]:
    """Run the program in every build on its last kind of inputs.

    Raises:
        UserError: it fails in one, or its outputs are below `gate_db` there, unless low parity is allowed.
        BuildUnavailable: no build can be tried here.
    """
    kind = list(program.cases)[-1]
    inputs, references = list(program.cases[kind].values()), program.references[kind]
    checks = []
    for build in BUILDS:
        try:
            got = run(file, inputs, len(references), build.load_mode, build.weight_cache)
            pairs = zip(got, references, strict=True)
            psnr = min(compare(output.reshape(reference.shape), reference).psnr_db for output, reference in pairs)
            failed = (
                f"its outputs are {psnr:.1f} dB PSNR from the model's, below {gate_db:g} dB" if psnr < gate_db else ""
            )
        except UserError as error:
            psnr, failed = -MAX_DB, str(error)
        if failed and not allow_low_parity:
            raise UserError(
                f"export of {program.name} to {target.name}: right in the runtime of the Python package, it is not in an "
                f"application's ({build}): {failed}; nothing was written. Take it as it is with --allow-low-parity"
            )
        checks.append(BuildCheck(load_mode=build.load_mode, weight_cache=build.weight_cache, psnr_db=psnr))
    return tuple(checks)
