"""Builds the C++ runner for this host against the installed ExecuTorch wheel, once, into a cache folder."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from device_runner.errors import RunnerError

SOURCE = Path(__file__).parent / "runner" / "runner.cpp"
COMPILERS = ("c++", "g++", "clang++")
LIBRARIES = ("", "_threadpool", "_kernels_optimized", "_kernels_quantized", "_backend_xnnpack")
# The definitions as in the wheel's own CMake config: its vendored c10 headers and its libraries need them.
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
    """All that decides what the built runner is; the cache is keyed by its hash."""

    executorch: str
    executorch_folder: str
    compiler: str
    compiler_version: str
    flags: tuple[str, ...]
    source_sha256: str

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


def default_cache_dir() -> Path:
    """`$MOBILEVD_CACHE`, else `~/.cache/mobilevd`."""
    return Path(os.environ.get("MOBILEVD_CACHE") or Path.home() / ".cache" / "mobilevd").absolute()


def build_host_runner(cache_dir: Path | str | None = None) -> Path:
    """The runner for this host, compiled on first use (seconds) and found in the cache afterwards.

    The program lies in a folder named by the hash of its source, the ExecuTorch version and folder, and the
    compiler; `build.json` beside it says which these were. The folder is made under another name and renamed,
    so that a build that was killed, or two at once, never leave a half-written program.

    Raises `RunnerError`: no compiler, no ExecuTorch, a compile error (its first error line and the path of
    the log), or a cache folder that cannot be written.
    """
    toolchain = find_toolchain()
    cache = Path(cache_dir).absolute() if cache_dir is not None else default_cache_dir()
    folder = cache / f"runner-{toolchain.key}"
    runner = folder / "runner"
    if runner.is_file():
        return runner
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{folder.name}-", dir=cache))
    except OSError as error:
        raise RunnerError(
            f"{cache}: cannot hold the built runner: {error.strerror}; set MOBILEVD_CACHE to another folder"
        ) from None
    try:
        _compile(toolchain, temporary / "runner", log=cache / f"{folder.name}.log")
        (temporary / "build.json").write_text(json.dumps(asdict(toolchain), indent=2) + "\n")
        temporary.chmod(0o755)
        try:
            os.rename(temporary, folder)
        except OSError:
            if not runner.is_file():  # otherwise another process built the same program first
                raise
    except OSError as error:
        raise RunnerError(f"{folder}: the built runner cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return runner


def find_toolchain() -> Toolchain:
    """The compiler and the ExecuTorch that a build now would use."""
    spec = importlib.util.find_spec("executorch")
    if spec is None or not spec.submodule_search_locations:
        raise RunnerError("the runner is built against the package executorch, which is not installed: pip install it")
    folder = Path(list(spec.submodule_search_locations)[0])
    needed = [folder / "include" / "executorch" / "extension" / "module" / "module.h", *_libraries(folder)]
    missing = [path for path in needed if not path.is_file()]
    if missing:
        raise RunnerError(f"{missing[0]}: missing, so the runner cannot be built; executorch >= 1.5.1 for Linux has it")
    compiler = _find_compiler()
    return Toolchain(
        executorch=importlib.metadata.version("executorch"),
        executorch_folder=str(folder),
        compiler=shlex.join(compiler),
        compiler_version=_compiler_version(compiler),
        flags=FLAGS,
        source_sha256=hashlib.sha256(SOURCE.read_bytes()).hexdigest(),
    )


def _libraries(folder: Path) -> list[Path]:
    return [folder / "lib" / f"libexecutorch{suffix}.so" for suffix in LIBRARIES]


def _find_compiler() -> list[str]:
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


def _compiler_version(compiler: list[str]) -> str:
    try:
        result = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunnerError(f"{compiler[0]}: the C++ compiler cannot be started: {error}") from None
    if result.returncode != 0 or not result.stdout.strip():
        raise RunnerError(f"{compiler[0]} --version fails (exit code {result.returncode}); set CXX to a C++ compiler")
    return result.stdout.strip().splitlines()[0]


def compile_command(toolchain: Toolchain, output: Path) -> list[str]:
    """Compile and link in one step; the program finds the wheel's libraries by its rpath."""
    folder = Path(toolchain.executorch_folder)
    include = folder / "include"
    c10 = include / "executorch" / "runtime" / "core" / "portable_type" / "c10"
    command = [
        *shlex.split(toolchain.compiler),
        *toolchain.flags,
        "-isystem",
        str(include),
        "-isystem",
        str(c10),
    ]
    # The kernel and delegate libraries register themselves when loaded; nothing refers to them by name.
    link = ["-Wl,--no-as-needed", *map(str, _libraries(folder)), f"-Wl,-rpath,{folder / 'lib'}"]
    return [*command, str(SOURCE), "-o", str(output), *link]


def _compile(toolchain: Toolchain, output: Path, log: Path) -> None:
    command = compile_command(toolchain, output)
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=COMPILE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise RunnerError(f"building the runner took over {COMPILE_TIMEOUT_S} s: {shlex.join(command)}") from None
    if result.returncode == 0 and output.is_file():
        return
    text = result.stderr + result.stdout
    log.write_text(shlex.join(command) + "\n\n" + text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = lines or [f"exit code {result.returncode} and no output"]
    errors = [line for line in lines if re.search(r"\berror\b|undefined reference", line, re.IGNORECASE)]
    raise RunnerError(f"the runner could not be built: {(errors or lines)[0]} (all of it: {log})")
