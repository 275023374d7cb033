"""Builds the runner for Android: first ExecuTorch from its sources with the NDK, then the runner against that build."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from device_runner.building.cache import RECORD, cache_folder, key_of, make_folder
from device_runner.building.layout import ANDROID_ABIS, PROGRAM, Built, describe_folder, find_runner
from device_runner.building.toolchain import SOURCE_FOLDER, installed_version, run_logged, source_sha256
from device_runner.errors import RunnerError

KIND = "android"
PLATFORM = "android-26"
"""Android 8.0, the API level that ExecuTorch's own Android builds ask for."""
LEAST_NDK = 22
"""Oldest NDK release whose C++ library has std::filesystem, which the runner uses."""
TOOLCHAIN = "build/cmake/android.toolchain.cmake"
BUILD_TIMEOUT_S = 4 * 3600
# Changes to ExecuTorch's preset, which is made for an app: no JNI and no language models, but the event tracer. The log
# goes to stderr, because logcat would keep it on the device.
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "ANDROID_PLATFORM": PLATFORM,
    "ANDROID_STL": "c++_static",
    "EXECUTORCH_PAL_DEFAULT": "posix",
    "EXECUTORCH_ENABLE_LOGGING": "ON",
    "EXECUTORCH_ENABLE_EVENT_TRACER": "ON",
    "EXECUTORCH_BUILD_DEVTOOLS": "ON",
    "EXECUTORCH_BUILD_XNNPACK": "ON",
    # As in the wheel, so that both measure the same: its preset (tools/cmake/preset/pybind.cmake) sets neither, and
    # these are ExecuTorch's defaults. The Android preset turns the cache of packed weights on; it puts a lock around
    # every call of the delegate and saves memory only where programs share weights.
    "EXECUTORCH_XNNPACK_ENABLE_WEIGHT_CACHE": "OFF",
    "EXECUTORCH_XNNPACK_SHARED_WORKSPACE": "ON",
    "EXECUTORCH_BUILD_EXTENSION_DATA_LOADER": "ON",
    "EXECUTORCH_BUILD_EXTENSION_FLAT_TENSOR": "ON",
    "EXECUTORCH_BUILD_EXTENSION_NAMED_DATA_MAP": "ON",
    "EXECUTORCH_BUILD_EXTENSION_MODULE": "ON",
    "EXECUTORCH_BUILD_EXTENSION_TENSOR": "ON",
    "EXECUTORCH_BUILD_KERNELS_OPTIMIZED": "ON",
    "EXECUTORCH_BUILD_KERNELS_QUANTIZED": "ON",
    "EXECUTORCH_BUILD_ANDROID_JNI": "OFF",
    "EXECUTORCH_BUILD_EXTENSION_LLM": "OFF",
    "EXECUTORCH_BUILD_EXTENSION_LLM_RUNNER": "OFF",
    "EXECUTORCH_BUILD_EXTENSION_TRAINING": "OFF",
    "EXECUTORCH_BUILD_EXTENSION_IMAGE": "OFF",
    "EXECUTORCH_BUILD_KERNELS_LLM": "OFF",
}

Commands = tuple[tuple[str, ...], ...]


def find_android_runner(abi: str, cache_dir: Path | str | None = None) -> Path | None:
    """The folder of the runner built for the processor `abi`; None if there is none built from the current source."""
    return find_runner(KIND, abi, cache_dir)


def build_android(
    abi: str,
    executorch_dir: Path | str,
    ndk_dir: Path | str,
    *,
    vulkan: bool = False,
    cache_dir: Path | str | None = None,
    dry_run: bool = False,
) -> Built:
    """Build the runner for Android into the cache, unless it is there already. ExecuTorch takes minutes, once.

    Args:
        abi: `arm64-v8a` (phones) or `x86_64` (emulators): those that ExecuTorch has presets for.
        executorch_dir: a checkout of ExecuTorch with its submodules, in a folder named `executorch`.
        ndk_dir: Android's native development kit.
        vulkan: also build the backend for the phone's graphics processor (needs `glslc` on PATH).
        dry_run: only check the arguments and return the commands.

    Raises `RunnerError`: unknown abi, no NDK or no checkout in the folder given, no CMake or Ninja, or a step that
    fails (with its first error and the path of the log).
    """
    if abi not in ANDROID_ABIS:
        raise RunnerError(f"unknown abi {abi!r}; known: {', '.join(ANDROID_ABIS)}")
    ndk, executorch = Path(ndk_dir).absolute(), Path(executorch_dir).absolute()
    revision = check_ndk(ndk)
    version, notes = check_checkout(executorch, abi)
    cmake = _tool("cmake", "3.25 or newer")
    _tool("ninja", "any version")
    backends = ["xnnpack", *(["vulkan"] if vulkan else [])]
    if vulkan and not dry_run:
        _tool("glslc", "of the Vulkan SDK or shaderc")

    cache = cache_folder(cache_dir)
    made_of: dict[str, Any] = {
        "executorch": version,
        "executorch_commit": _commit(executorch),
        "ndk": revision,
        "abi": abi,
        "backends": backends,
        "options": OPTIONS,
    }
    installed = cache / f"executorch-{KIND}-{abi}-{key_of(made_of)}"
    record = {"kind": KIND, **made_of, "source_sha256": source_sha256(), "compiler_version": f"NDK {revision}"}
    folder = cache / f"runner-{KIND}-{abi}-{key_of(record)}"

    def executorch_commands(prefix: Path) -> Commands:
        build = cache / f"build-{installed.name}"
        return _executorch_commands(cmake, abi, executorch, ndk, prefix, vulkan, build)

    def runner_commands(prefix: Path) -> Commands:
        build = cache / f"build-{folder.name}"
        return _runner_commands(cmake, abi, executorch, ndk, installed, vulkan, build, prefix)

    def install_executorch(temporary: Path) -> None:
        _run(executorch_commands(temporary), cache / f"{installed.name}.log", "ExecuTorch could not be built")
        shutil.rmtree(cache / f"build-{installed.name}", ignore_errors=True)

    def build_runner(temporary: Path) -> None:
        _run(runner_commands(temporary), cache / f"{folder.name}.log", "the runner could not be built")
        shutil.rmtree(cache / f"build-{folder.name}", ignore_errors=True)
        if not (temporary / PROGRAM).is_file():
            raise RunnerError(f"{folder}: CMake installed no program named {PROGRAM}")

    commands = (*executorch_commands(installed), *runner_commands(folder))
    if dry_run:
        return Built(folder, commands, dry_run=True, notes=notes)
    there = (folder / RECORD).is_file()
    if not there:
        make_folder(installed, made_of, install_executorch)
        make_folder(folder, record, build_runner)
    return Built(folder, commands, *describe_folder(folder), from_cache=there, notes=notes)


def check_ndk(ndk: Path) -> str:
    """The NDK's revision; raises `RunnerError` if there is no NDK or it is too old."""
    properties = ndk / "source.properties"
    try:
        match = re.search(r"^Pkg\.Revision\s*=\s*(([0-9]+)\.[^\s]*)", properties.read_text(), re.MULTILINE)
    except OSError:
        match = None
    if match is None or not (ndk / TOOLCHAIN).is_file():
        wrong = properties if match is None else ndk / TOOLCHAIN
        raise RunnerError(
            f"{ndk}: no Android NDK, {wrong.relative_to(ndk)} is missing or says no revision; give --ndk DIR"
        )
    if int(match[2]) < LEAST_NDK:
        raise RunnerError(f"{ndk}: NDK {match[1]} is too old; the runner needs r{LEAST_NDK} or newer")
    return match[1]


def check_checkout(executorch: Path, abi: str) -> tuple[str, tuple[str, ...]]:
    """The version of an ExecuTorch checkout, and notes for the user about it.

    Raises `RunnerError` for a folder that is no checkout, or that lacks its submodules or a preset for the processor.
    """
    try:
        version = (executorch / "version.txt").read_text().strip()
        presets = json.loads((executorch / "CMakePresets.json").read_text())["configurePresets"]
        names = {preset["name"] for preset in presets}
    except (OSError, ValueError, KeyError, TypeError):
        raise RunnerError(
            f"{executorch}: no checkout of ExecuTorch with version.txt and CMakePresets.json; give --executorch DIR"
        ) from None
    if executorch.name != "executorch":
        raise RunnerError(
            f"{executorch}: ExecuTorch includes its headers by the folder's name, which must be executorch"
        )
    if f"android-{abi}" not in names:
        known = sorted(name.removeprefix("android-") for name in names if str(name).startswith("android-"))
        raise RunnerError(f"{executorch}: ExecuTorch {version} has no preset for {abi}, only for: {', '.join(known)}")
    if not (executorch / "backends" / "xnnpack" / "third-party" / "XNNPACK" / "CMakeLists.txt").is_file():
        raise RunnerError(
            f"{executorch}: its submodules are missing: git -C {executorch} submodule update --init --recursive"
        )
    exporter = installed_version()
    if version.split(".")[:2] != exporter.split(".")[:2]:
        return version, (f"ExecuTorch {version} builds the runner, but programs are exported with {exporter}",)
    return version, ()


def _executorch_commands(
    cmake: str, abi: str, executorch: Path, ndk: Path, installed: Path, vulkan: bool, build: Path
) -> Commands:
    options = {
        "CMAKE_TOOLCHAIN_FILE": ndk / TOOLCHAIN,
        "CMAKE_INSTALL_PREFIX": installed,
        "PYTHON_EXECUTABLE": sys.executable,
        **OPTIONS,
        "EXECUTORCH_BUILD_VULKAN": "ON" if vulkan else "OFF",
    }
    return (
        (
            cmake,
            "-S",
            str(executorch),
            "-B",
            str(build),
            "--preset",
            f"android-{abi}",
            "-G",
            "Ninja",
            *_defined(options),
        ),
        (cmake, "--build", str(build), "--parallel", _jobs(), "--target", "install"),
    )


def _runner_commands(
    cmake: str, abi: str, executorch: Path, ndk: Path, installed: Path, vulkan: bool, build: Path, folder: Path
) -> Commands:
    options = {
        "CMAKE_TOOLCHAIN_FILE": ndk / TOOLCHAIN,
        "ANDROID_PLATFORM": PLATFORM,
        "EXECUTORCH_DIR": installed,
        "EXECUTORCH_SOURCE": executorch,
        "MOBILEVD_VULKAN": "ON" if vulkan else "OFF",
    }
    return (
        (cmake, "-S", str(SOURCE_FOLDER), "-B", str(build), "--preset", f"android-{abi}", *_defined(options)),
        (cmake, "--build", str(build), "--parallel", _jobs()),
        (cmake, "--install", str(build), "--prefix", str(folder), "--strip"),
    )


def _defined(options: dict[str, Any]) -> list[str]:
    return [f"-D{name}={value}" for name, value in options.items()]


def _jobs() -> str:
    return str(max(1, (os.cpu_count() or 2) - 1))


def _run(commands: Commands, log: Path, failure: str) -> None:
    for command in commands:
        run_logged(command, log, failure, BUILD_TIMEOUT_S)


def _tool(name: str, version: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise RunnerError(f"{name} ({version}) is not on PATH; the build for Android needs it")
    return path


def _commit(executorch: Path) -> str:
    """The commit of the checkout; empty for an unpacked archive."""
    git = shutil.which("git")
    if git is None or not (executorch / ".git").exists():
        return ""
    result = subprocess.run([git, "-C", str(executorch), "rev-parse", "HEAD"], capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else ""
