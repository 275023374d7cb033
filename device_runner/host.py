"""This machine as a device: runs the runner as a process of its own and records the machine's state."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from device_runner.build import build_host_runner
from device_runner.bundle import Bundle, Program
from device_runner.devices import RawRun
from device_runner.errors import RunnerError
from device_runner.protocol import Protocol

CPU_FOLDER = Path("/sys/devices/system/cpu")


class HostDevice:
    """The host; `runner` stands in for the built one, `cache_dir` for the default cache of builds."""

    name = "host"

    def __init__(self, runner: Path | str | None = None, cache_dir: Path | str | None = None) -> None:
        self._runner = Path(runner) if runner is not None else None
        self._cache_dir = cache_dir

    @classmethod
    def from_argument(cls, argument: str) -> HostDevice:
        """From `--device host`; there is only one host, so nothing may follow."""
        if argument:
            raise RunnerError(f"unknown device 'host:{argument}'; there is one host, write: host")
        return cls()

    @property
    def runner(self) -> Path:
        """The runner program, built on first use."""
        if self._runner is None:
            self._runner = build_host_runner(self._cache_dir)
        return self._runner

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "host",
            "system": platform.system(),
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "cpu": cpu_model(),
            "logical_cores": os.cpu_count(),
            "physical_cores": psutil.cpu_count(logical=False),
            "usable_cores": usable_cores(),
            "memory_bytes": psutil.virtual_memory().total,
        }

    def state(self) -> dict[str, Any]:
        battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
        temperatures = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "load_average": [round(load, 2) for load in os.getloadavg()],
            "governors": _per_core("scaling_governor"),
            "frequencies_khz": [int(khz) for khz in _per_core("scaling_cur_freq") if khz.isdigit()],
            "temperatures_c": {
                f"{chip}.{sensor.label or index}": sensor.current
                for chip, sensors in temperatures.items()
                for index, sensor in enumerate(sensors)
            },
            "on_battery": None if battery is None else not battery.power_plugged,
            "memory_available_bytes": psutil.virtual_memory().available,
        }

    def versions(self) -> dict[str, str]:
        versions = {"python": platform.python_version()}
        record = self.runner.parent / "build.json"
        if record.is_file():
            build = json.loads(record.read_text())
            versions |= {
                "executorch": build["executorch"],
                "compiler": build["compiler_version"],
                "runner_source_sha256": build["source_sha256"],
            }
        return versions

    def run(self, bundle: Bundle, program: Program, protocol: Protocol, output_dir: Path) -> RawRun:
        command = [str(self.runner), *runner_arguments(program, protocol, output_dir)]
        try:
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=protocol.timeout_s,
            )
        except subprocess.TimeoutExpired:
            raise RunnerError(
                f"host: the runner was stopped after {protocol.timeout_s:g} s, the protocol's timeout_s"
            ) from None
        except OSError as error:
            raise RunnerError(f"host: the runner {command[0]} cannot be started: {error.strerror}") from None
        return RawRun(self.name, result.returncode, result.stdout, result.stderr, output_dir)


def runner_arguments(program: Program, protocol: Protocol, output_dir: Path) -> list[str]:
    """The runner's arguments for one run with the bundle's reference inputs."""
    options = {
        "--model": program.file,
        "--method": program.method,
        "--output-dir": output_dir,
        "--warmup": protocol.warmup,
        "--iterations": protocol.iterations,
        "--threads": protocol.threads,
        "--load-mode": protocol.load_mode,
    }
    arguments = [str(part) for option in options.items() for part in option]
    return arguments + [part for tensor in program.inputs for part in ("--input", str(tensor.file))]


def usable_cores() -> int | None:
    """Cores that this process may run on, fewer than the machine has in a container or under `taskset`."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpu_model() -> str:
    """The processor's name as the kernel gives it, else the architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware", "Model") and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _per_core(name: str) -> list[str]:
    """One frequency-scaling setting per core, in order; empty where the kernel shows none (most VMs)."""
    values = []
    for core in range(os.cpu_count() or 0):
        try:
            values.append((CPU_FOLDER / f"cpu{core}" / "cpufreq" / name).read_text().strip())
        except OSError:
            continue
    return values
