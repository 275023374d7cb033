"""Names that a processor has in Android, in compilers and in wheels, and how the runner's folders are found again."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path

from device_runner.building.cache import RECORD, cache_folder, read_record
from device_runner.building.toolchain import source_sha256

PROGRAM = "runner"
"""Name of the program in every folder that holds a built runner."""


@dataclass(frozen=True)
class GlibcAbi:
    """What a processor is called outside Android."""

    machine: str
    """As in the names of compilers (`aarch64-linux-gnu-g++`) and of wheels (`manylinux_2_28_aarch64`)."""
    loader: str
    """Of its C library: the program that loads others."""


GLIBC_ABIS = {
    "x86_64": GlibcAbi("x86_64", "ld-linux-x86-64.so.2"),
    "arm64-v8a": GlibcAbi("aarch64", "ld-linux-aarch64.so.1"),
}
ANDROID_ABIS = ("arm64-v8a", "armeabi-v7a", "x86_64", "x86")


@dataclass(frozen=True)
class Built:
    """What building a runner did, or in a dry run would do."""

    folder: Path
    """Holds the program `runner`, the libraries it needs, and `build.json`."""
    commands: tuple[tuple[str, ...], ...] = ()
    """In order."""
    files: tuple[str, ...] = ()
    """In `folder`; empty in a dry run."""
    size_bytes: int = 0
    from_cache: bool = False
    dry_run: bool = False
    notes: tuple[str, ...] = field(default=())
    """What the user should know of this build."""


def host_abi() -> str:
    """Android's name of this machine's processor; the machine's own where Android has none."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64-v8a", "arm64": "arm64-v8a"}.get(machine, machine)


def builds_natively(abi: str) -> bool:
    """This machine's own compiler, and the ExecuTorch installed on it, are for Linux on that processor."""
    return abi == host_abi() and platform.system() == "Linux"


def find_runner(kind: str, abi: str, cache_dir: Path | str | None) -> Path | None:
    """The newest folder of that kind (`android`, `glibc`) for that processor, built from the source as it is now."""
    source = source_sha256()
    found = [
        folder
        for folder in cache_folder(cache_dir).glob(f"runner-{kind}-{abi}-*")
        if (folder / PROGRAM).is_file() and read_record(folder).get("source_sha256") == source
    ]
    return max(found, key=lambda folder: (folder / RECORD).stat().st_mtime, default=None)


def describe_folder(folder: Path) -> tuple[tuple[str, ...], int]:
    """Names and size together of the files in a built runner's folder."""
    files = sorted(path for path in folder.iterdir() if path.name != RECORD)
    return tuple(path.name for path in files), sum(path.stat().st_size for path in files)
