"""The proof that comes with every program: its outputs against the model's, and the threshold they must reach."""

from __future__ import annotations

from pathlib import Path

import torch

from device_runner.bundle.manifest import ParityCheck, ParityEntry
from export.program.layer_precision import LayerPrecisions
from export.program.parity import Parity, compare
from export.program.program import Program
from export.proof.worst_blocks import worst_blocks
from export.targets.base import Target
from mobilevd.errors import UserError

WORST_NAMED = 5


def prove(program: Program, target: Target, file: Path) -> dict[str, list[Parity]]:
    """Run the program in `file` on every case; return, by kind, an entry per output."""
    checks = {}
    for kind, inputs in program.cases.items():
        got = target.run(file, list(inputs.values()))
        pairs = zip(got, program.references[kind], strict=True)
        checks[kind] = [compare(output.reshape(reference.shape), reference) for output, reference in pairs]
    return checks


def check_gate(
    program: Program,
    target: Target,
    precision: str,
    layers: LayerPrecisions | None,
    checks: dict[str, list[Parity]],
    gate: float,
) -> None:
    """Raise UserError, naming the blocks that lose most, if an output is below the threshold `gate`."""
    kind, index, check = min(
        ((kind, i, check) for kind, each in checks.items() for i, check in enumerate(each)),
        key=lambda item: item[2].psnr_db,
    )
    if check.psnr_db >= gate:
        return
    with torch.no_grad():
        worst = worst_blocks(program, target, precision, layers)[:WORST_NAMED]
    named = ", ".join(f"{loss.name} (its output {loss.snr_db:.1f} dB SNR)" for loss in worst)
    raise UserError(
        f"export of {program.name} to {target.name}: its output {program.outputs[index]} on {kind} is "
        f"{check.psnr_db:.1f} dB PSNR from the model's, below the {gate:g} dB that {precision} must reach (largest error "
        f"{check.max_abs_error:.2g}); nothing was written. Most is lost in: {named or 'no block of its own'}. Choose a "
        "higher precision, keep these blocks higher (--min-psnr), or take it as it is with --allow-low-parity"
    )


def worst_on_reference(checks: dict[str, list[Parity]]) -> Parity:
    """The worst output on the last kind of inputs (real latents if given), which become the bundle's reference."""
    return min(checks[list(checks)[-1]], key=lambda check: check.psnr_db)


def parity_entry(checks: dict[str, list[Parity]], outputs: tuple[str, ...], arithmetic: str) -> ParityEntry:
    """The manifest's `parity` entry of a program that was run: `worst_on_reference`, and every check."""
    worst = vars(worst_on_reference(checks))
    return ParityEntry(
        executed_here=True,
        arithmetic=arithmetic,
        **worst,
        inputs=list(checks)[-1],
        checks=every_check(checks, outputs),
    )


def every_check(checks: dict[str, list[Parity]], outputs: tuple[str, ...]) -> tuple[ParityCheck, ...]:
    """The manifest's entries of all checks."""
    return tuple(
        ParityCheck(inputs=kind, output=name, **vars(check))
        for kind, each in checks.items()
        for name, check in zip(outputs, each, strict=True)
    )


def not_executed_entry(reason: str) -> ParityEntry:
    """The manifest's `parity` entry of a program that no runtime here can run."""
    return ParityEntry(executed_here=False, reason=f"not executed here: {reason}")
