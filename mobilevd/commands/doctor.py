"""`mobilevd doctor`: what this machine has and lacks for a run (versions, compiler, memory, disk, GPU), and for phones."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import psutil
from rich.console import Console

PACKAGES = (
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "accelerate",
    "executorch",
    "coremltools",
    "onnx",
    "onnxruntime",
    "lpips",
    "av",
)
# Imported, not only looked up: their compiled code must fit the torch beside it, which no version number shows.
IMPORTED = {"torch": "torch", "torchvision": "torchvision", "executorch": "executorch.runtime"}


PHONE_ABI = "arm64-v8a"
TOOLS = ("cmake", "ninja")


@dataclass(frozen=True)
class Finding:
    """One line: what was checked, what was found, and whether it is usable (None: for information only)."""

    name: str
    found: str
    usable: bool | None = None


def doctor_command(console: Console) -> bool:
    """Check this machine, print a line per finding, and return whether everything that a run needs is usable."""
    with console.status("looking around"):
        findings = examine(_find_compiler, _find_adb, Path.cwd())
    marks = {True: "[green]ok[/green]", False: "[red]no[/red]", None: "  "}
    for finding in findings:
        console.print(f"{marks[finding.usable]} [bold]{finding.name:13s}[/bold]", end=" ")
        console.print(finding.found, markup=False, highlight=False, soft_wrap=True)
    return all(finding.usable is not False for finding in findings)


def _find_compiler() -> str:
    from device_runner.building.toolchain import find_toolchain

    toolchain = find_toolchain()
    return f"{toolchain.compiler} ({toolchain.compiler_version})"


def _find_adb() -> str:
    from device_runner.devices.adb.program import find_program

    program = find_program()
    return f"{program.path} ({program.version})"


def examine(find_compiler: Callable[[], str], find_adb: Callable[[], str], folder: Path) -> list[Finding]:
    """Check this machine and return the findings.

    `find_compiler` returns the name of the runner's compiler, `find_adb` that of adb, or they raise an error with the
    reason. `folder` is where runs would be written.
    """
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(folder)
    findings = [Finding("python", f"{platform.python_version()} on {platform.platform()}")]
    findings += [_package(name) for name in PACKAGES]
    findings += [
        _compiler(find_compiler),
        _gpu(),
        Finding("threads", f"{_usable_cores()} usable of {os.cpu_count()}"),
        Finding("memory", f"{_gib(memory.available)} free of {_gib(memory.total)}"),
        Finding("disk", f"{_gib(disk.free)} free of {_gib(disk.total)} in {folder}"),
        _adb(find_adb),
        _phone_runner(),
        _ndk(),
        *map(_tool, TOOLS),
    ]
    return findings


def _package(name: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, f"not installed; mend with: pip install -c constraints.txt {name}", usable=False)
    if name in IMPORTED:
        try:
            with contextlib.redirect_stderr(StringIO()), contextlib.redirect_stdout(StringIO()):
                importlib.import_module(IMPORTED[name])
        except Exception as error:  # the error of a broken installation is the finding
            reason = (str(error).splitlines() or [""])[0]
            found = f"{version}, but it does not import: {type(error).__name__}: {reason}"
            return Finding(name, found, usable=False)
    return Finding(name, version, usable=True)


def _compiler(find_compiler: Callable[[], str]) -> Finding:
    try:
        return Finding("C++ compiler", find_compiler(), usable=True)
    except Exception as error:  # the reason is the finding
        return Finding("C++ compiler", f"no measuring on this host: {error}", usable=False)


def _gpu() -> Finding:
    try:
        import torch

        if torch.cuda.is_available():
            return Finding("GPU", torch.cuda.get_device_name(0), usable=True)
    except Exception:  # a broken torch has its own line already
        return Finding("GPU", "unknown: torch does not import")
    return Finding("GPU", "none that torch can use; training runs on the CPU")


def _adb(find_adb: Callable[[], str]) -> Finding:
    try:
        return Finding("adb", find_adb(), usable=True)
    except Exception as error:  # as above
        return Finding("adb", f"no phones from here; nothing else needs it: {error}")


def _phone_runner() -> Finding:
    """The program that runs models on phones: one built with the NDK, or the experimental one that needs none."""
    from device_runner.building.android import find_android_runner
    from device_runner.building.glibc import find_glibc_runner

    try:
        built, substitute = find_android_runner(PHONE_ABI), find_glibc_runner(PHONE_ABI)
    except Exception as error:  # as above
        return Finding("phone runner", f"cannot be looked for: {error}")
    if built is not None:
        return Finding("phone runner", f"for {PHONE_ABI}: {built}", usable=True)
    if substitute is not None:
        return Finding(
            "phone runner", f"for {PHONE_ABI}, experimental (bench --runner glibc): {substitute}", usable=True
        )
    return Finding(
        "phone runner",
        f"none yet for {PHONE_ABI}: mobilevd build-runner --executorch DIR --ndk DIR, or, experimental and without an NDK, "
        "mobilevd build-runner --glibc",
    )


def _ndk() -> Finding:
    from device_runner.building.android import check_ndk
    from device_runner.building.command import NDK_VARIABLES

    name = next((each for each in NDK_VARIABLES if os.environ.get(each)), None)
    if name is None:
        return Finding("Android NDK", f"not told: set ${NDK_VARIABLES[0]}, or give build-runner --ndk DIR")
    try:
        return Finding("Android NDK", f"{check_ndk(Path(os.environ[name]))}: {os.environ[name]} (${name})", usable=True)
    except Exception as error:  # as above
        return Finding("Android NDK", f"${name}: {error}")


def _tool(name: str) -> Finding:
    path = shutil.which(name)
    missing = f"not on PATH; a runner for phones is built with it and the NDK (pip install {name})"
    return Finding(name, path, usable=True) if path else Finding(name, missing)


def _usable_cores() -> int:
    # A container may be confined to fewer cores than the machine has; not every system reports that.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
