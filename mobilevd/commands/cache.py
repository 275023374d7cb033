"""`mobilevd cache --list` and `--clean`: what is kept for this user to measure with, such as built programs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from device_runner.building.cache import cache_folder
from device_runner.building.clean import cache_entries, clean_cache
from mobilevd.errors import UserError
from mobilevd.terminal import TerminalConsole


def cache_command(config: Path | None, listed: bool, clean: bool, console: Console | None = None) -> None:
    """List what lies in this user's cache; remove what was written there if `clean`, and tell how much that frees.

    Raises UserError for options that do not go together, and RunnerError where `clean_cache` does.
    """
    if config is not None:
        raise UserError(
            f"{config}: --list and --clean take no CONFIG: they are about programs that measure; "
            "encoded clips lie in the run's folder, or at data.cache"
        )
    if listed and clean:
        raise UserError("cache: --list removes nothing, and --clean lists what it removes; give one of them")
    console = console or TerminalConsole()

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    folder = cache_folder(None)
    entries = clean_cache() if clean else cache_entries()
    if not entries:
        line(f"{folder}: nothing is there")
        return
    removed, kept = [e for e in entries if e.kept_because is None], [e for e in entries if e.kept_because is not None]
    for entry in [*removed, *kept]:
        reason = f"; kept: {entry.kept_because}" if entry.kept_because is not None else ""
        line(f"{shown_size(entry.size_bytes):>10}  {entry.path.relative_to(folder)}: {entry.what}{reason}")
    total = shown_size(sum(entry.size_bytes for entry in removed))
    line(f"freed {total} in {folder}" if clean else f"{total} in {folder}; --clean removes what is not kept")


def shown_size(size_bytes: int) -> str:
    """A size in bytes, kilobytes or megabytes."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1e3:.0f} kB" if size_bytes < 1e6 else f"{size_bytes / 1e6:.1f} MB"
