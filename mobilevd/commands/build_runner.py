"""`mobilevd build-runner`: builds the runner for phones."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from device_runner.building.command import build_runner_command, describe_built
from mobilevd.terminal import TerminalConsole


def build_phone_runner(
    abi: str,
    executorch: Path | None,
    ndk: Path | None,
    *,
    vulkan: bool,
    glibc: bool,
    wheel: Path | None,
    dry_run: bool,
    console: Console | None = None,
) -> None:
    """Build a runner and print where it lies, or print what would be done (`dry_run`)."""
    console = console or TerminalConsole()
    with console.status("building"):
        built = build_runner_command(
            abi, executorch=executorch, ndk=ndk, glibc=glibc, wheel=wheel, vulkan=vulkan, dry_run=dry_run
        )
    for line in describe_built(built):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
