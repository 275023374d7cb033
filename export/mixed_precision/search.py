"""The search for a mixed precision that meets a goal, by measuring the exported program itself."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from device_runner.bundle.manifest import QuantizationEntry, SensitivityEntry
from export.mixed_precision.mixed import Choice, choices
from export.mixed_precision.sensitivity import Sensitivity, measure_sensitivity
from export.program.parity import psnr_db, snr_db
from export.program.program import Program
from export.proof.half import prove_in_half
from export.proof.prove import prove
from export.targets.base import Target, program_size
from mobilevd.errors import UserError

STEP_DB = 0.5  # added to the expectation each time a program falls short of its prediction
LARGEST_STEP_DB = 10.0  # so that a program without a number (an overflow) does not lead to the last choice at once


@dataclass(frozen=True)
class Goal:
    """The goal of a mixed precision: least PSNR in dB, largest program in bytes, or both (at least one)."""

    min_psnr_db: float | None = None
    max_size_bytes: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("--min-psnr", self.min_psnr_db), ("--max-size-mb", self.max_size_bytes)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserError(f"{name}: must be a number above 0")


@dataclass(frozen=True)
class Mixed:
    """A choice that was exported and measured.

    Attributes:
        base: precision of all layers that `layers` does not name.
        psnr_db: the least PSNR over outputs and cases.
    """

    base: str
    layers: dict[str, str]
    psnr_db: float
    size_bytes: int
    sensitivities: list[Sensitivity]

    def entry(self) -> QuantizationEntry:
        """The manifest's entry: the choice and, most sensitive block first, the sensitivities that it rests on."""
        sensitivity = [SensitivityEntry(s.block.name, s.parameters, s.sqnr_db) for s in self.sensitivities]
        return QuantizationEntry(self.base, self.layers, tuple(sensitivity))


def find_mixed(
    program: Program,
    target: Target,
    base: str,
    goal: Goal,
    on_block: Callable[[int, int], None] | None = None,
) -> Mixed:
    """Keep the most sensitive blocks above `base` until the goal is met.

    With a PSNR to reach, return the smallest program found that has it; with a size alone, the best that fits.

    Raises:
        UserError: the target cannot mix precisions, or no mixture meets the goal; the message says what is possible.
    """
    levels = levels_above(target, base)
    sensitivities = measure_sensitivity(program, target, levels, on_block)
    path = choices(sensitivities, levels)
    with tempfile.TemporaryDirectory() as folder:
        judge = _Judge(program, target, base, Path(folder) / f"mixed{target.suffix}")
        if goal.min_psnr_db is not None:
            index = _enough(path, judge, goal.min_psnr_db)
        else:
            assert goal.max_size_bytes is not None
            index = _fitting(path, judge, goal.max_size_bytes)
        psnr, size = judge.measure(path, index)
    if goal.max_size_bytes is not None and size > goal.max_size_bytes:
        raise UserError(
            f"{program.name}: {goal.max_size_bytes / 1e6:.1f} MB and {goal.min_psnr_db:g} dB cannot both be had: the "
            f"smallest program found with {psnr:.1f} dB has {size / 1e6:.1f} MB; allow more megabytes or fewer decibels"
        )
    return Mixed(base, path[index].layers, psnr, size, sensitivities)


def levels_above(target: Target, base: str) -> list[str]:
    """`base` and the precisions that its blocks can be raised to, in order; UserError if there are none."""
    for ladder in target.ladders:
        if base in ladder:
            return list(ladder[ladder.index(base) :])
    known = ", ".join(sorted({precision for ladder in target.ladders for precision in ladder})) or "none"
    raise UserError(
        f"target {target.name} cannot mix {base} with higher precisions; it can mix: {known}. "
        "Leave --min-psnr and --max-size-mb away for it"
    )


class _Judge:
    """The measurement of choices: each is exported and run once."""

    def __init__(self, program: Program, target: Target, base: str, file: Path) -> None:
        self.program, self.target, self.base, self.file = program, target, base, file
        self._known: dict[int, tuple[float, int]] = {}
        offsets = [
            psnr_db(reference * 0.999, reference) - snr_db(reference * 0.999, reference)
            for references in program.references.values()
            for reference in references
        ]
        self.psnr_over_snr = min(offsets)
        """Difference of PSNR and SNR for these outputs in dB: peak squared over mean square."""

    def measure(self, path: Sequence[Choice], index: int) -> tuple[float, int]:
        """Return (least PSNR over cases in dB, bytes) of the exported program."""
        if index not in self._known:
            self.target.lower(self.program, self.base, self.file, path[index].layers)
            checks = prove(self.program, self.target, self.file)
            psnr = min(check.psnr_db for each in checks.values() for check in each)
            if half := prove_in_half(self.program, self.target, self.base, path[index].layers):
                psnr = min(psnr, half.psnr_db)
            self._known[index] = (psnr, program_size(self.file))
        return self._known[index]


def _enough(path: Sequence[Choice], judge: _Judge, wanted_db: float) -> int:
    """Index of the first choice that is expected to have `wanted_db`, or of a higher one that really has it."""
    expected = wanted_db
    best = -math.inf
    index = -1
    while True:
        after = index + 1
        index = next(
            (i for i in range(after, len(path)) if path[i].sqnr_db + judge.psnr_over_snr >= expected), len(path) - 1
        )
        psnr, _ = judge.measure(path, index)
        best = max(best, psnr)
        if psnr >= wanted_db:
            return index
        if index == len(path) - 1:
            raise UserError(
                f"{judge.program.name}: no mixture of precisions reaches {wanted_db:g} dB PSNR; the best has {best:.1f} dB"
            )
        expected += min(wanted_db - psnr, LARGEST_STEP_DB) + STEP_DB


def _fitting(path: Sequence[Choice], judge: _Judge, limit_bytes: float) -> int:
    """Index of the last choice whose program has at most `limit_bytes`."""
    _, smallest = judge.measure(path, 0)
    if smallest > limit_bytes:
        raise UserError(
            f"{judge.program.name}: {limit_bytes / 1e6:.1f} MB is less than it has with all blocks in {judge.base}, "
            f"{smallest / 1e6:.1f} MB"
        )
    besides = smallest - path[0].size_bytes  # graph, constants, tables
    index = max(i for i, choice in enumerate(path) if i == 0 or choice.size_bytes + besides <= limit_bytes)
    while index > 0 and judge.measure(path, index)[1] > limit_bytes:
        index -= 1
    return index
