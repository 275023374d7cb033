"""One run of a program on this host in a process of its own, for its outputs alone."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from device_runner.devices.job import RawRun
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import Protocol
from device_runner.runners.events import read_events

if TYPE_CHECKING:
    import numpy as np

TIMEOUT_S = 1800.0


def run_once(
    runner: Path, program: Path, inputs: Sequence[np.ndarray], protocol: Protocol, num_outputs: int
) -> list[np.ndarray]:
    """Run `program` in our runner with the protocol's numbers of runs; return the last run's float32 outputs.

    Raises `RunnerError`: the program was killed or failed, or the runner's events are not as asked.
    """
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="mobilevd-run-") as folder:
        out = Path(folder)
        command = [str(runner), "--model", str(program), "--output-dir", folder]
        for index, array in enumerate(inputs):
            file = out / f"input_{index}.bin"
            np.ascontiguousarray(array, dtype="<f4").tofile(file)
            command += ["--input", str(file)]
        command += ["--warmup", str(protocol.warmup), "--iterations", str(protocol.iterations)]
        command += ["--threads", str(protocol.threads), "--load-mode", protocol.load_mode]
        command += ["--weight-cache", protocol.weight_cache]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise RunnerError(f"{program.name}: the runner was stopped after {TIMEOUT_S:g} s") from None
        run = RawRun(program.name, done.returncode, done.stdout, done.stderr, out)
        outputs = read_events(run, protocol, num_outputs).outputs
        return [np.fromfile(out / Path(each["file"]).name, dtype="<f4").reshape(each["shape"]) for each in outputs]
