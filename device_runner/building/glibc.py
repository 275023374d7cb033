"""Builds the runner with the libraries of a wheel and a bundled C library (experimental).

The folder needs nothing of the system that it runs on but the kernel: the loader is started by its path and told where
all libraries lie. So the runner also works where there is no C library, another one (Android's), or an older one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from device_runner.building.cache import RECORD, cache_folder, key_of, make_folder
from device_runner.building.layout import GLIBC_ABIS, PROGRAM, Built, builds_natively, describe_folder, find_runner
from device_runner.building.toolchain import (
    FLAGS,
    Toolchain,
    compile_command,
    compile_runner,
    compiler_version,
    find_compiler,
    installed_executorch,
    installed_version,
    source_sha256,
)
from device_runner.building.wheel import WHEELS, download_command, download_wheel, unpacked_wheel, wheel_version
from device_runner.errors import RunnerError

ORIGIN = "$ORIGIN"
KIND = "glibc"


def find_glibc_runner(abi: str, cache_dir: Path | str | None = None) -> Path | None:
    """The folder of the runner built for the processor `abi`; None if there is none built from the current source."""
    return find_runner(KIND, abi, cache_dir)


def build_glibc(
    abi: str, wheel: Path | str | None = None, *, cache_dir: Path | str | None = None, dry_run: bool = False
) -> Built:
    """Build the runner for a processor, with all libraries it needs, into the cache, unless it is there already.

    Args:
        abi: `x86_64` or `arm64-v8a`.
        wheel: ExecuTorch wheel for Linux on that processor; None takes the installed package if this machine has that
            processor, else pip downloads the wheel of the installed version.
        dry_run: only return the commands; nothing is downloaded or written.

    Raises `RunnerError`: unknown processor, no compiler for it, a wheel that is not one, a compile error, or a library
    that is not found.
    """
    if abi not in GLIBC_ABIS:
        raise RunnerError(f"unknown abi {abi!r} for a glibc runner; known: {', '.join(GLIBC_ABIS)}")
    cache = cache_folder(cache_dir)
    commands: list[tuple[str, ...]] = []
    if wheel is not None:
        wheel = Path(wheel)
        version = wheel_version(wheel, abi)
        executorch = unpacked_wheel(wheel, cache) if not dry_run else cache / "wheel" / "executorch"
    elif builds_natively(abi):
        version, executorch = installed_version(), installed_executorch()
    else:
        version = installed_version()
        commands.append(tuple(download_command(version, abi, cache / WHEELS)))
        executorch = cache / "wheel" / "executorch"
        if not dry_run:
            executorch = unpacked_wheel(download_wheel(version, abi, cache), cache)
    compiler = compiler_for(abi)
    toolchain = Toolchain(
        executorch=version,
        executorch_folder=str(executorch),
        compiler=" ".join(compiler),
        compiler_version=compiler_version(compiler),
        flags=FLAGS,
        source_sha256=source_sha256(),
    )
    record = {**asdict(toolchain), "kind": KIND, "abi": abi, "backends": ["xnnpack"], "libc": _libc(compiler, abi)}
    folder = cache / f"runner-{KIND}-{abi}-{key_of(record)}"
    commands.append(tuple(compile_command(toolchain, folder / PROGRAM, ORIGIN)))
    notes = ["experimental: never seen on a phone, only on Linux and on emulated processors"]
    if version.split(".")[:2] != installed_version().split(".")[:2]:
        notes.append(f"the wheel is ExecuTorch {version}, but programs are exported with {installed_version()}")
    if dry_run:
        return Built(folder, tuple(commands), dry_run=True, notes=tuple(notes))

    def fill(temporary: Path) -> None:
        compile_runner(toolchain, temporary / PROGRAM, ORIGIN, folder.with_name(f"{folder.name}.log"))
        collect_libraries(temporary, executorch / "lib", compiler, GLIBC_ABIS[abi].loader)

    there = (folder / RECORD).is_file()
    make_folder(folder, record, fill)
    return Built(folder, tuple(commands), *describe_folder(folder), from_cache=there, notes=tuple(notes))


def collect_libraries(folder: Path, wheel_libraries: Path, compiler: Sequence[str], loader: str) -> None:
    """Copy the loader and all libraries that the program in `folder` needs, directly or indirectly, into that folder.

    Raises `RunnerError` for a library that neither the wheel nor the compiler has.
    """
    todo = [loader, *_needed(folder / PROGRAM)]
    while todo:
        name = todo.pop()
        if (folder / name).exists():
            continue
        in_wheel = wheel_libraries / name
        source = in_wheel if in_wheel.is_file() else _compiler_file(compiler, name)
        if source is None:
            raise RunnerError(
                f"the library {name}, which the runner needs, is neither in the wheel nor {compiler[0]}'s"
            )
        shutil.copy(source, folder / name)
        todo += _needed(folder / name)


def _needed(file: Path) -> list[str]:
    """Names of the libraries that an ELF file lists as needed."""
    readelf = shutil.which("readelf")
    if readelf is None:
        raise RunnerError("readelf is not on PATH; it finds the libraries that the runner needs (package binutils)")
    result = subprocess.run([readelf, "-dW", str(file)], capture_output=True, text=True, errors="replace")
    if result.returncode != 0:
        raise RunnerError(f"{file}: readelf cannot read it: {result.stderr.strip().splitlines()[-1:]}")
    # A name with a slash would be a path on the machine that built the library.
    return [name for name in re.findall(r"\(NEEDED\).*\[([^\]]+)\]", result.stdout) if "/" not in name]


def compiler_for(abi: str) -> list[str]:
    """The command of a C++ compiler for the processor `abi`; `RunnerError` if there is none."""
    if builds_natively(abi):
        return find_compiler()
    name = f"{GLIBC_ABIS[abi].machine}-linux-gnu-g++"
    path = shutil.which(name)
    if path is None:
        package = f"g++-{GLIBC_ABIS[abi].machine.replace('_', '-')}-linux-gnu"
        raise RunnerError(f"no compiler for {abi}: {name} is not on PATH (Debian, Ubuntu: apt-get install {package})")
    return [path]


def _compiler_file(compiler: Sequence[str], name: str) -> Path | None:
    """Path of one of the compiler's system libraries; None if it has none (it then prints the name back)."""
    result = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True)
    path = Path(result.stdout.strip())
    return path if result.returncode == 0 and path.is_absolute() and path.is_file() else None


def _libc(compiler: Sequence[str], abi: str) -> str:
    """Version of the C library that is bundled with the program."""
    library = _compiler_file(compiler, "libc.so.6")
    if library is None:
        raise RunnerError(f"{compiler[0]} has no libc.so.6, so a runner for {abi} cannot bring one with it")
    match = re.search(rb"GNU C Library [^\n]*? version ([0-9.]+[0-9])", library.read_bytes())
    return f"glibc {match[1].decode()}" if match else "glibc"
