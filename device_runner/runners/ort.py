"""ONNX Runtime: the installed package on this machine, a small C++ runner on its C API on a phone.

Both take the arguments and print the events of our own runner, so they are read and checked like it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from device_runner.bundle.read import BundleProgram
from device_runner.devices.job import FILES, Platform, RawRun, Step
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import Protocol
from device_runner.runners.base import RUNNER, Readings
from device_runner.runners.deployment import Deployment
from device_runner.runners.executorch_log import identity
from device_runner.runners.mobilevd import MobilevdRunner

TARGETS = frozenset({"onnx"})
WORKER = "device_runner.runners.onnxruntime_worker"
PROGRAM, LIBRARY = "ort_runner", "libonnxruntime.so"
LIBRARY_VARIABLE = "MOBILEVD_ONNXRUNTIME"
"""Environment variable that gives the C++ runner the path of the library."""
SOURCE = Path(__file__).parent.parent / "runner" / "ort_runner.cpp"


class OnnxRuntimeRunner(MobilevdRunner):
    """ONNX Runtime in one of its forms, with its CPU provider."""

    name = "onnxruntime"

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        self.targets = TARGETS

    def profile_step(self, program: BundleProgram, protocol: Protocol, runs: int = 3) -> Step:
        raise RunnerError("onnxruntime makes no ETDump; --profile is for programs of ExecuTorch")

    def read(self, runs: Mapping[str, RawRun], program: BundleProgram, protocol: Protocol) -> Readings:
        readings = super().read(runs, program, protocol)
        if self.deployment.command[0] != sys.executable:
            return readings
        note = "the peak memory holds Python and numpy too, beside ONNX Runtime and the program"
        return replace(readings, notes=[*readings.notes, note])


def onnxruntime_host() -> OnnxRuntimeRunner:
    """The installed package in a process of its own; raises `RunnerError` if it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise RunnerError("ONNX bundles are run by the package onnxruntime, which is not installed: pip install it")
    versions = {"onnxruntime": importlib.metadata.version("onnxruntime")}
    # The worker must import this package, wherever the process is started.
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    command = (sys.executable, "-m", WORKER)
    return OnnxRuntimeRunner(Deployment(command=command, environment={"PYTHONPATH": path}, versions=versions))


def onnxruntime_device(folder: Path | str, platform: Platform) -> OnnxRuntimeRunner:
    """The C++ runner and the library in a folder of the user's, for a device of that platform.

    Raises `RunnerError` with instructions for making what is missing.
    """
    folder = Path(folder)
    for name in (PROGRAM, LIBRARY):
        if not (folder / name).is_file():
            raise RunnerError(
                f"{folder}: has no {name}, for {platform.system} on {platform.abi}; {_how_to_build(name)}"
            )
    place = f"{FILES}/{RUNNER}"
    return OnnxRuntimeRunner(
        Deployment(
            command=(f"{place}/{PROGRAM}",),
            files={name: folder / name for name in (PROGRAM, LIBRARY)},
            executables=frozenset({PROGRAM}),
            environment={LIBRARY_VARIABLE: f"{place}/{LIBRARY}"},
            versions={"ort_runner": identity(folder / PROGRAM), "onnxruntime": identity(folder / LIBRARY)},
        )
    )


def compile_command(compiler: list[str], include: Path | str, output: Path | str) -> list[str]:
    """The command that builds the C++ runner. `include` holds onnxruntime_c_api.h; Android needs the NDK's clang++."""
    flags = ["-std=c++17", "-O2", "-isystem", str(include)]
    static = ["-static-libstdc++"] if any("android" in part for part in compiler) else []
    return [*compiler, *flags, str(SOURCE), "-o", str(output), *static, "-ldl"]


def _how_to_build(name: str) -> str:
    if name == LIBRARY:
        return "the archive onnxruntime-android-VERSION.aar (a zip file) holds it under jni/ABI/"
    ndk = "NDK/toolchains/llvm/prebuilt/linux-x86_64/bin/aarch64-linux-android28-clang++"
    command = " ".join(compile_command([ndk], "headers", f"FOLDER/{PROGRAM}"))
    return f"build it with the headers of onnxruntime-android-VERSION.aar: {command}"
