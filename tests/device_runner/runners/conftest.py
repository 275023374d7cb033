"""A program without a model, and the host as the device that runs a runner's steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from device_runner.bundle.read import BundleProgram, BundleTensor
from device_runner.devices.host import HostDevice
from device_runner.devices.job import Job, RawRun
from device_runner.protocol.protocol import Protocol
from device_runner.runners.base import RUNNER, Runner, input_name, program_name

INPUT = np.arange(12, dtype=np.float32)
RunSteps = Callable[..., Mapping[str, RawRun]]


@pytest.fixture
def program(tmp_path: Path) -> BundleProgram:
    """Two inputs of 3 values and one output of 3."""
    folder = tmp_path / "a bundle"
    folder.mkdir()
    (folder / "unet.pte").write_bytes(b"program")
    for name in ("first", "second", "sum"):
        INPUT[:3].tofile(folder / f"{name}.bin")
    return BundleProgram(
        name="unet",
        file=folder / "unet.pte",
        size_bytes=len(b"program"),
        method="forward",
        inputs=tuple(BundleTensor(name, (3,), "float32", folder / f"{name}.bin") for name in ("first", "second")),
        outputs=(BundleTensor("sum", (3,), "float32", folder / "sum.bin", 60.0),),
    )


@pytest.fixture
def run_steps(tmp_path: Path) -> RunSteps:
    """Runs what a runner asks for, as a device does."""

    def run(runner: Runner, program: BundleProgram, protocol: Protocol) -> Mapping[str, RawRun]:
        files = {program_name(program): program.file}
        if program.file.is_dir():
            inside = [path for path in program.file.rglob("*") if path.is_file()]
            files = {f"{program_name(program)}/{path.relative_to(program.file)}": path for path in inside}
        files |= {input_name(index): tensor.file for index, tensor in enumerate(program.inputs)}
        files |= {f"{RUNNER}/{name}": path for name, path in runner.files().items()}
        steps = tuple(runner.steps(program, protocol))
        executables = frozenset(f"{RUNNER}/{name}" for name in runner.executables())
        job = Job("0" * 64, "a job", files, executables, {}, steps, 60.0, cpu_mask=protocol.cpu_mask)
        (out := tmp_path / "results").mkdir()
        return HostDevice().run(job, out, lambda: None, lambda text, share: None).steps

    return run
