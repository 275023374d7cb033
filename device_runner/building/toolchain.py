"""The compilers, the installed ExecuTorch and the runner's source: everything that decides a build of the runner."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from device_runner.building.cache import key_of
from device_runner.errors import RunnerError

SOURCE_FOLDER = Path(__file__).parent.parent / "runner"
SOURCE = "runner.cpp"
COMPILERS = ("c++", "g++", "clang++")
LIBRARIES = ("", "_threadpool", "_kernels_optimized", "_kernels_quantized", "_backend_xnnpack", "_etdump")
# The definitions are those of the wheel's own CMake config: its vendored c10 headers and its libraries need them.
FLAGS = (
    "-std=c++17",
    "-O2",
    "-DC10_USING_CUSTOM_GENERATED_MACROS",
    "-DET_EVENT_TRACER_ENABLED",
    "-DET_USE_THREADPOOL",
)
COMPILE_TIMEOUT_S = 300


@dataclass(frozen=True)
class Toolchain:
    """Everything that decides a build of the runner against a wheel; its hash is the cache's key."""

    executorch: str
    executorch_folder: str
    compiler: str
    compiler_version: str
    flags: tuple[str, ...]
    source_sha256: str

    @property
    def key(self) -> str:
        return key_of(asdict(self))


def find_toolchain() -> Toolchain:
    """The compiler and the ExecuTorch that a build for this host would use now."""
    folder = installed_executorch()
    compiler = find_compiler()
    return Toolchain(
        executorch=installed_version(),
        executorch_folder=str(folder),
        compiler=shlex.join(compiler),
        compiler_version=compiler_version(compiler),
        flags=FLAGS,
        source_sha256=source_sha256(),
    )


def source_sha256() -> str:
    """Hex SHA-256 of the names and contents of all files that decide what is compiled."""
    digest = hashlib.sha256()
    for path in [SOURCE_FOLDER / SOURCE, SOURCE_FOLDER / "CMakeLists.txt", *sorted(SOURCE_FOLDER.glob("*.h"))]:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def installed_executorch() -> Path:
    """Folder of the installed package executorch, which holds everything the runner is built against."""
    spec = importlib.util.find_spec("executorch")
    if spec is None or not spec.submodule_search_locations:
        raise RunnerError("the runner is built against the package executorch, which is not installed: pip install it")
    folder = Path(list(spec.submodule_search_locations)[0])
    check_executorch(folder)
    return folder


def installed_version() -> str:
    """Version of the installed package executorch."""
    try:
        return importlib.metadata.version("executorch")
    except importlib.metadata.PackageNotFoundError:
        raise RunnerError("the package executorch is not installed: pip install it") from None


def check_executorch(folder: Path) -> None:
    """Raise `RunnerError` for a package without the headers or libraries that the runner needs."""
    headers = folder / "include" / "executorch"
    needed = [
        headers / "extension" / "module" / "module.h",
        headers / "devtools" / "etdump" / "etdump_flatcc.h",
        *libraries(folder),
    ]
    missing = [path for path in needed if not path.is_file()]
    if missing:
        raise RunnerError(f"{missing[0]}: missing, so the runner cannot be built; executorch >= 1.5.1 for Linux has it")


def libraries(folder: Path) -> list[Path]:
    """The libraries of a package that the runner is linked with."""
    return [folder / "lib" / f"libexecutorch{suffix}.so" for suffix in LIBRARIES]


def find_compiler() -> list[str]:
    """The command of a C++ compiler: `$CXX` if set (it may hold arguments), else the first found on PATH."""
    wanted = shlex.split(os.environ.get("CXX", ""))
    for command in [wanted] if wanted else [[name] for name in COMPILERS]:
        path = shutil.which(command[0])
        if path is not None:
            return [path, *command[1:]]
    looked = f"$CXX ({wanted[0]})" if wanted else f"$CXX (not set), {', '.join(COMPILERS)} on PATH"
    raise RunnerError(
        f"no C++ compiler to build the runner with; looked for {looked}. Install one "
        "(Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++) or set CXX to the one to use"
    )


def compiler_version(compiler: Sequence[str]) -> str:
    """The first line that a compiler prints for `--version`."""
    try:
        result = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunnerError(f"{compiler[0]}: the C++ compiler cannot be started: {error}") from None
    if result.returncode != 0 or not result.stdout.strip():
        raise RunnerError(f"{compiler[0]} --version fails (exit code {result.returncode}); set CXX to a C++ compiler")
    return result.stdout.strip().splitlines()[0]


def compile_command(toolchain: Toolchain, output: Path, rpath: str) -> list[str]:
    """The command that compiles and links in one step; the program finds the wheel's libraries by its rpath."""
    folder = Path(toolchain.executorch_folder)
    include = folder / "include"
    c10 = include / "executorch" / "runtime" / "core" / "portable_type" / "c10"
    command = [*shlex.split(toolchain.compiler), *toolchain.flags, "-isystem", str(include), "-isystem", str(c10)]
    # The kernel and delegate libraries register themselves when loaded; nothing refers to them by name.
    link = ["-Wl,--no-as-needed", *map(str, libraries(folder)), f"-Wl,-rpath,{rpath}"]
    return [*command, str(SOURCE_FOLDER / SOURCE), "-o", str(output), *link]


def compile_runner(toolchain: Toolchain, output: Path, rpath: str, log: Path) -> None:
    """Compile the runner; `RunnerError` gives the first error's line and the path of the log."""
    run_logged(compile_command(toolchain, output, rpath), log, "the runner could not be built", COMPILE_TIMEOUT_S)


def run_logged(command: Sequence[str], log: Path, failure: str, timeout_s: float) -> None:
    """Run a step of a build; if it fails, write its output to `log` and raise `RunnerError` with its first error."""
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise RunnerError(f"{failure}: it took over {timeout_s:g} s: {shlex.join(command)}") from None
    except OSError as error:
        raise RunnerError(f"{failure}: {command[0]} cannot be started: {error.strerror}") from None
    if result.returncode == 0:
        return
    text = result.stderr + result.stdout
    log.write_text(shlex.join(command) + "\n\n" + text)
    raise RunnerError(
        f"{failure}: {_first_error(text) or f'exit code {result.returncode}, no output'} (all of it: {log})"
    )


def _first_error(text: str) -> str:
    """The first line of a compiler's or CMake's output that names an error; else its first line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith("CMake Error"):  # names the place; the error itself is in the lines below it
            return " ".join(lines[number : number + 3])
        if re.search(r"\berror\b|undefined reference", line, re.IGNORECASE):
            return line
    return lines[0] if lines else ""
