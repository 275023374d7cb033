"""Makes a job for a device from a program of a bundle, a runner and a protocol."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from device_runner.bundle.hashes import sha256_once
from device_runner.bundle.read import Bundle, BundleProgram, program_files
from device_runner.devices.job import Job, Step, by_lines
from device_runner.errors import RunnerError
from device_runner.measure.run_progress import RunProgress
from device_runner.protocol.protocol import Protocol
from device_runner.runners.base import RUNNER, Runner, form_of, input_name, program_name, tells_runs


def make_job(
    bundle: Bundle, program: BundleProgram, protocol: Protocol, runner: Runner, steps: list[Step] | None = None
) -> Job:
    """The job that measures a program: its files, the runner's files, and the runner's steps (or `steps` instead)."""
    files: dict[str, Path] = {}
    sha256: dict[str, str] = {}

    def add(name: str, file: Path) -> None:
        files[name], sha256[name] = file, bundle.files[bundle.name_of(file)].sha256

    for file in program_files(program.file):
        if program.file.is_dir():
            add(f"{program_name(program)}/{file.relative_to(program.file).as_posix()}", file)
        else:  # weights beside a program keep the names by which it refers to them
            add(program_name(program) if file == program.file else file.name, file)
    for index, tensor in enumerate(program.inputs):
        add(input_name(index), tensor.file)
    for name, file in runner.files().items():
        files[f"{RUNNER}/{name}"] = file
        sha256[f"{RUNNER}/{name}"] = _sha256_of_runner(file)
    steps = runner.steps(program, protocol) if steps is None else steps
    decides: dict[str, Any] = {
        "bundle": bundle.sha256,
        "program": program.name,
        "method": program.method,
        "protocol": protocol.to_json(),
        "files": sha256,
        "runner": [runner.name, runner.versions(), form_of(runner)],
        "steps": [[step.name, step.command, step.outputs, dict(step.environment)] for step in steps],
    }
    return Job(
        key=hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest(),
        title=f"{bundle.name}/{program.name}",
        files=files,
        executables=frozenset(f"{RUNNER}/{name}" for name in runner.executables()),
        sha256=sha256,
        steps=tuple(steps),
        timeout_s=protocol.timeout_s,
        cpu_mask=protocol.cpu_mask,
        sample_state_s=protocol.sample_state_s,
        output_bytes=sum(tensor.size_bytes for tensor in program.outputs),
        told=RunProgress(protocol) if tells_runs(runner) else by_lines,
    )


def _sha256_of_runner(file: Path) -> str:
    try:
        return sha256_once(file)
    except OSError as error:
        raise RunnerError(f"{file}: a file of the runner cannot be read: {error.strerror}") from None
