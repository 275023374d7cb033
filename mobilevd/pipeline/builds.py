"""The runtime as applications build it, for the proof of exported programs: our runner, in its own process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from device_runner.building.host import build_host_runner
from device_runner.errors import RunnerError
from device_runner.measure.run_once import run_once
from device_runner.protocol.protocol import Protocol
from export.proof.builds import BuildUnavailable
from mobilevd.errors import UserError

THREADS = 2


def run_in_build(
    file: Path, inputs: Sequence[Tensor], num_outputs: int, load_mode: str, weight_cache: str
) -> list[Tensor]:
    """Run a program as `export.proof.builds.RunInBuild` asks, twice in one process: the second run must be right too."""
    protocol = Protocol(warmup=1, iterations=1, threads=THREADS, load_mode=load_mode, weight_cache=weight_cache)
    try:
        outputs = run_once(_runner(), file, [tensor.numpy() for tensor in inputs], protocol, num_outputs)
    except RunnerError as error:
        raise UserError(str(error)) from None
    return [torch.from_numpy(output) for output in outputs]


@cache
def _runner() -> Path:
    try:
        return build_host_runner()
    except RunnerError as error:
        raise BuildUnavailable(f"the runner cannot be built here: {error}") from None
