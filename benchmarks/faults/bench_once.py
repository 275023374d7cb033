"""One measurement in a process of its own, which a fault may kill; progress goes to stdout, the result to a file.

python -m benchmarks.faults.bench_once ADB SERIAL BUNDLE WITNESS RESULT [--unchecked]
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from device_runner.devices.adb.device import AdbDevice
from device_runner.devices.job import FILES
from device_runner.errors import RunnerError
from device_runner.measure.measure import measure
from device_runner.measure.outputs import OutputCheck
from device_runner.protocol.protocol import Protocol
from device_runner.runners.base import RUNNER, OutputFile, Readings
from device_runner.runners.deployment import Deployment, glibc_deployment
from device_runner.runners.mobilevd import MobilevdRunner

PROTOCOL = Protocol(name="faults", warmup=2, iterations=20, min_seconds=1.5, cold_loads=1, threads=1, timeout_s=20)
WITNESS = "witness.sh"


def with_witness(deployment: Deployment, script: Path) -> Deployment:
    """The same runner, started by a script that keeps a copy of its output in a place that no measurement reads."""
    return replace(
        deployment,
        command=("sh", f"{FILES}/{RUNNER}/{WITNESS}", *deployment.command),
        files={**deployment.files, WITNESS: script},
    )


def believe_everything() -> None:
    """Switch the checks off: accept any samples and outputs."""
    import device_runner.measure.measure
    from device_runner.measure.outputs import psnr_db

    def read(self: MobilevdRunner, runs: Any, program: Any, protocol: Any) -> Readings:
        events = []
        for line in runs["timed"].stdout.splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
        samples = [
            event["ns"] / 1e6 for event in events if isinstance(event, dict) and event.get("event") == "iteration"
        ]
        return Readings([{"total": 1.0}] * 2, [], samples, [OutputFile(runs["timed"].output_dir / "output_0.bin")])

    def check(device: str, outputs: Any, program: Any, folder: Any) -> list[OutputCheck]:
        reference = np.fromfile(program.outputs[0].file, np.float32)
        values = np.resize(np.fromfile(outputs[0].path, np.float32), reference.shape)
        psnr = psnr_db(np.nan_to_num(values), reference)
        return [OutputCheck("latents", None if psnr == float("inf") else psnr, 100.0, 0.0)]

    MobilevdRunner.read = read
    device_runner.measure.measure.check_outputs = check


def main() -> int:
    adb, serial, bundle, witness, result = sys.argv[1:6]
    if "--unchecked" in sys.argv:
        believe_everything()
    device = AdbDevice.from_argument(serial, adb)
    device.reconnect_s = 15
    runner = MobilevdRunner(with_witness(glibc_deployment(device.platform().abi), Path(witness)))
    print("begin", flush=True)
    try:
        measurement = measure(
            bundle, device, PROTOCOL, runner=runner, progress=lambda text, share: print(text, flush=True)
        )
    except RunnerError as error:
        print(f"refused: {error}", flush=True)
        return 2
    except KeyboardInterrupt:
        print("refused: interrupted", flush=True)
        return 130
    Path(result).write_text(json.dumps(measurement.to_json()))
    print("accepted", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
