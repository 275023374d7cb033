"""Builds the runner for this host against the installed ExecuTorch wheel, once, into the cache."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from device_runner.building.cache import cache_folder, make_folder
from device_runner.building.layout import PROGRAM
from device_runner.building.toolchain import compile_runner, find_toolchain


def build_host_runner(cache_dir: Path | str | None = None) -> Path:
    """The runner for this host, compiled on first use (seconds) and taken from the cache afterwards.

    The program lies in a folder named by the hash of its source, the ExecuTorch version and folder, and the
    compiler; `build.json` beside it records these.

    Raises `RunnerError`: no compiler, no ExecuTorch, a compile error (its first error line and the path of
    the log), or a cache folder that cannot be written.
    """
    toolchain = find_toolchain()
    folder = cache_folder(cache_dir) / f"runner-{toolchain.key}"

    def fill(temporary: Path) -> None:
        log = folder.with_name(f"{folder.name}.log")
        compile_runner(toolchain, temporary / PROGRAM, f"{toolchain.executorch_folder}/lib", log)

    return make_folder(folder, asdict(toolchain), fill) / PROGRAM
