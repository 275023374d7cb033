"""Names of a processor in Android, in compilers and in wheels; and the lookup of the runner's folders."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path

from device_runner.building.cache import RECORD, cache_folder, check_intact, read_record
from device_runner.building.toolchain import source_sha256

PROGRAM = "runner"
"""Name of the program in every folder that holds a built runner."""


@dataclass(frozen=True)
class GlibcAbi:
    """Names of a processor outside Android."""

    machine: str
    """Name in compilers (`aarch64-linux-gnu-g++`) and in wheels (`manylinux_2_28_aarch64`)."""
    loader: str
    """File name of its C library's dynamic loader, the program that loads others."""


GLIBC_ABIS = {
    "x86_64": GlibcAbi("x86_64", "ld-linux-x86-64.so.2"),
    "arm64-v8a": GlibcAbi("aarch64", "ld-linux-aarch64.so.1"),
}
ANDROID_ABIS = ("arm64-v8a", "armeabi-v7a", "x86_64", "x86")


@dataclass(frozen=True)
class Built:
    """The result of building a runner, or in a dry run the plan."""

    folder: Path
    """Folder with the program `runner`, the libraries it needs, and `build.json`."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Commands of the build, in order."""
    files: tuple[str, ...] = ()
    """Names of the files in `folder`; empty in a dry run."""
    size_bytes: int = 0
    from_cache: bool = False
    dry_run: bool = False
    notes: tuple[str, ...] = field(default=())
    """Notes for the user about this build."""


def host_abi() -> str:
    """Android's name of this machine's processor; the system's own name if Android has none."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64-v8a", "arm64": "arm64-v8a"}.get(machine, machine)


def builds_natively(abi: str) -> bool:
    """True if this machine's own compiler and installed ExecuTorch are for Linux on the processor `abi`."""
    return abi == host_abi() and platform.system() == "Linux"


def find_runner(kind: str, abi: str, cache_dir: Path | str | None) -> Path | None:
    """The newest folder of a kind (`android`, `glibc`) for a processor, built from the current source, or None.

    Raises `RunnerError` if it does not hold what was built.
    """
    source = source_sha256()
    found = [
        folder
        for folder in cache_folder(cache_dir).glob(f"runner-{kind}-{abi}-*")
        if (folder / PROGRAM).is_file() and read_record(folder).get("source_sha256") == source
    ]
    newest = max(found, key=lambda folder: (folder / RECORD).stat().st_mtime, default=None)
    if newest is not None:
        check_intact(newest)
    return newest


def describe_folder(folder: Path) -> tuple[tuple[str, ...], int]:
    """Names of the files in a built runner's folder, and their total size in bytes."""
    files = sorted(path for path in folder.iterdir() if path.name != RECORD)
    return tuple(path.name for path in files), sum(path.stat().st_size for path in files)
