"""Builds the runner for this host against the installed ExecuTorch wheel, once, into the cache."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from device_runner.building.cache import RECORD, cache_folder, make_folder
from device_runner.building.layout import PROGRAM
from device_runner.building.toolchain import Toolchain, compile_runner, find_toolchain


def build_host_runner(cache_dir: Path | str | None = None) -> Path:
    """The runner for this host, compiled on first use (seconds) and taken from the cache afterwards.

    The program lies in a folder named by the hash of its source, the ExecuTorch version and folder, and the
    compiler; `build.json` beside it records these.

    Raises `RunnerError`: no compiler, no ExecuTorch, a compile error (its first error line and the path of
    the log), or a cache folder that cannot be written.
    """
    toolchain = find_toolchain()
    folder = _folder(toolchain, cache_dir)

    def fill(temporary: Path) -> None:
        log = folder.with_name(f"{folder.name}.log")
        compile_runner(toolchain, temporary / PROGRAM, f"{toolchain.executorch_folder}/lib", log)

    return make_folder(folder, asdict(toolchain), fill) / PROGRAM


def find_host_runner(cache_dir: Path | str | None = None) -> Path | None:
    """The runner for this host if it is built already; None if not. `RunnerError` as `build_host_runner`."""
    folder = _folder(find_toolchain(), cache_dir)
    return folder / PROGRAM if (folder / RECORD).is_file() else None


def _folder(toolchain: Toolchain, cache_dir: Path | str | None) -> Path:
    return cache_folder(cache_dir) / f"runner-{toolchain.key}"
