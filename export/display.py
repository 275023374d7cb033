"""The terminal output of an export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from device_runner.bundle.manifest import GraphEntry, Manifest, ParityEntry, ProgramEntry
from export.mixed_precision.search import Mixed

SHOWN_BLOCKS = 12


def print_folding(graph: GraphEntry, console: Console) -> None:
    """Print one line on what folding constants saved."""
    before, after = graph.before, graph.after
    console.print(
        f"one-step graph: {before.operators} operators and {before.flops / 1e9:.3f} GFLOPs before folding, "
        f"{after.operators} and {after.flops / 1e9:.3f} after",
        soft_wrap=True,
    )


def print_sensitivity(mixed: Mixed, console: Console) -> None:
    """Print the most sensitive blocks, the output's SQNR of each at every precision, and the precision each got."""
    if not mixed.sensitivities:
        return
    precisions = list(mixed.sensitivities[0].sqnr_db)
    table = Table(
        title=f"SQNR of the output in dB when one block alone is rounded ({mixed.base} with blocks kept higher)"
    )
    table.add_column("block")
    for column in ("parameters", *precisions, "chosen"):
        table.add_column(column, justify="right")
    for s in mixed.sensitivities[:SHOWN_BLOCKS]:
        figures = [f"{s.sqnr_db[precision]:.1f}" for precision in precisions]
        table.add_row(s.block.name, f"{s.parameters:,}", *figures, mixed.layers.get(s.block.name, mixed.base))
    console.print(table)
    kept = ", ".join(f"{list(mixed.layers.values()).count(p)} in {p}" for p in dict.fromkeys(mixed.layers.values()))
    console.print(
        f"  {len(mixed.sensitivities)} blocks, {kept or 'none kept higher'}, the rest in {mixed.base}: "
        f"{mixed.psnr_db:.1f} dB PSNR, {mixed.size_bytes / 1e6:.1f} MB",
        soft_wrap=True,
    )


def print_manifest(manifest: Manifest, folder: Path, console: Console) -> None:
    """Print a bundle's summary: size, parity and delegation of each program, lowering time and peak memory."""
    table = Table(title=f"{folder}: {manifest.target}, {manifest.precision}")
    for column in ("program", "precision", "MB", "inputs", "PSNR dB", "SNR dB", "max error"):
        table.add_column(column, justify="left" if column in ("program", "precision", "inputs") else "right")
    for name, program in manifest.programs.items():
        first = (name, program.precision, f"{program.size_mb:.1f}")
        for check in program.parity.checks:
            figures = (f"{check.psnr_db:.1f}", f"{check.snr_db:.1f}", f"{check.max_abs_error:.1e}")
            table.add_row(*first, check.inputs, *figures)
            first = ("", "", "")
        if not program.parity.executed_here:
            table.add_row(*first, "not run here", "", "", "")
    console.print(table)
    for name, program in manifest.programs.items():
        _print_delegation(name, program, console)
        if not program.parity.executed_here:
            console.print(f"  {name}: {program.parity.reason}", soft_wrap=True)
        for line in proof_lines(program.parity):
            console.print(f"  {name}: {line}", soft_wrap=True)
    peak = max(program.peak_memory_mb or 0 for program in manifest.programs.values())
    console.print(f"  peak memory of the process: {peak / 1000:.1f} GB", soft_wrap=True)


def proof_lines(parity: ParityEntry) -> Iterator[str]:
    """What was shown beside the run on this processor: half precision, other builds of the runtime."""
    if half := parity.half:
        largest = (
            f"; the largest value is {half.largest[0].largest:.3g}, of {half.largest[0].layer}" if half.largest else ""
        )
        over = f", a value beyond half precision in {half.overflow}" if half.overflow else ""
        yield f"in true half precision {half.psnr_db:.1f} dB{over}{largest}"
    if parity.builds:
        least = min(build.psnr_db for build in parity.builds)
        cases = ", ".join(f"{build.load_mode} with cache {build.weight_cache}" for build in parity.builds)
        yield f"in applications' builds of the runtime {least:.1f} dB or more ({cases})"
    elif parity.builds_reason:
        yield f"applications' builds of the runtime: {parity.builds_reason}"


def _print_delegation(name: str, program: ProgramEntry, console: Console) -> None:
    delegation = program.delegation
    plural = "" if delegation.delegates == 1 else "s"
    console.print(
        f"  {name}: {delegation.delegates} delegate{plural} with {delegation.operator_share:.0%} of operators and "
        f"{delegation.flops_share:.0%} of FLOPs; lowered in {program.lowering_s:.1f} s",
        soft_wrap=True,
    )
    for outside in delegation.operators_outside or ():
        shapes = ", ".join("x".join(map(str, shape)) for shape in outside.shapes[0])
        console.print(f"    outside: {outside.op} x{outside.count} ({shapes})", soft_wrap=True)
