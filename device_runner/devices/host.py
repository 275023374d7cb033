"""This machine as a device: runs the steps of a job as processes of their own and records the machine's state."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from device_runner.devices.job import FILES, OUT, Job, Platform, Progress, RawJob, RawRun, Ready, Step
from device_runner.devices.lock import sole_use_of_host
from device_runner.devices.started import started
from device_runner.errors import RunnerError

CPU_FOLDER = Path("/sys/devices/system/cpu")
SYSTEMS = {"Linux": "linux", "Darwin": "macos"}
ABIS = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64-v8a", "arm64": "arm64-v8a"}
POLL_S = 0.2
"""Interval between progress reports; the end of the process is noticed at once."""
LOOK_S = 1.0
"""Interval between looks at what the runner has printed: this program shares the cores with the one that it times. With
waiting, looking and a line of progress redrawn once a second it takes 0.5 % of a core."""
GUARD = 'read -r _; kill -s KILL -- "-$1"'
"""Shell text that waits for the end of its input, then kills the process group $1."""


class HostDevice:
    """The machine that this program runs on."""

    name = "host"
    warning: str | None = None
    works_itself = True
    """True if its own cores do the work, so that only one measurement may run; False if it drives another device."""

    @classmethod
    def from_argument(cls, argument: str, adb: str | None = None) -> HostDevice:
        """Open the host; raises `RunnerError` if an argument follows `host:`, as there is only one host."""
        if argument:
            raise RunnerError(f"unknown device 'host:{argument}'; there is one host, write: host")
        return cls()

    def platform(self) -> Platform:
        system, machine = platform.system(), platform.machine()
        return Platform(SYSTEMS.get(system, system.lower()), ABIS.get(machine.lower(), machine))

    def describe(self) -> dict[str, Any]:
        return {
            "model": platform.node(),
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
            "uptime_s": _uptime_s(),
            "load_average": [round(load, 2) for load in os.getloadavg()],
            "governors": _per_core("scaling_governor"),
            "frequencies_khz": [int(khz) for khz in _per_core("scaling_cur_freq") if khz.isdigit()],
            "max_frequencies_khz": [int(khz) for khz in _per_core("scaling_max_freq") if khz.isdigit()],
            "thermal_status": None,
            "temperatures_c": {
                f"{chip}.{sensor.label or index}": sensor.current
                for chip, sensors in temperatures.items()
                for index, sensor in enumerate(sensors)
            },
            "battery_c": None,
            "battery_percent": None if battery is None else battery.percent,
            "charging": None if battery is None else bool(battery.power_plugged),
            "memory_available_bytes": psutil.virtual_memory().available,
        }

    def versions(self) -> dict[str, str]:
        return {"python": platform.python_version()}

    def cancel(self) -> None:
        """Do nothing: `run` reports progress five times a second."""

    def run(self, job: Job, output_dir: Path, ready: Ready, progress: Progress) -> RawJob:
        pinned = _pinned(job.cpu_mask)
        alone = sole_use_of_host(progress) if self.works_itself else contextlib.nullcontext()
        with alone, tempfile.TemporaryDirectory(prefix="mobilevd-job-") as temporary:
            files = Path(temporary)
            for name, source in job.files.items():
                place = files / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(source.resolve())
            ready()
            return self._run_steps(job, pinned, files, output_dir, progress)

    def _run_steps(self, job: Job, pinned: list[str], files: Path, output_dir: Path, progress: Progress) -> RawJob:
        steps: dict[str, RawRun] = {}
        started, before = datetime.now(UTC).isoformat(timespec="seconds"), self.state()
        deadline = time.monotonic() + job.timeout_s
        with self._noting_states(job.sample_state_s) as series:
            for step in job.steps:
                out = output_dir / step.name
                out.mkdir()
                steps[step.name] = _run_step(job, step, pinned, files, out, deadline, progress)
                if steps[step.name].exit_code != 0:
                    break
        return RawJob(steps, started, before, self.state(), series)

    @contextlib.contextmanager
    def _noting_states(self, interval_s: float | None) -> Iterator[list[dict[str, Any]]]:
        """A list to which a thread adds a state at every interval, until the block ends."""
        series: list[dict[str, Any]] = []
        if interval_s is None:
            yield series
            return
        ended = threading.Event()

        def note() -> None:
            while not ended.wait(interval_s):
                series.append(self.state())

        thread = threading.Thread(target=note, daemon=True)
        thread.start()
        try:
            yield series
        finally:
            ended.set()
            thread.join()


def _run_step(
    job: Job, step: Step, pinned: list[str], files: Path, out: Path, deadline: float, progress: Progress
) -> RawRun:
    def placed(text: str) -> str:
        return text.replace(FILES, str(files)).replace(OUT, str(out))

    command = [*pinned, *map(placed, step.command)]
    environment = {**os.environ, **{name: placed(value) for name, value in step.environment.items()}}
    stdout, stderr = out.parent / f"{step.name}.stdout", out.parent / f"{step.name}.stderr"
    progress(*job.told(step.name, 0))
    with (
        stdout.open("wb") as stdout_file,
        stderr.open("wb") as stderr_file,
        started(
            "host: the runner",
            command,
            with_children=True,
            stdout=stdout_file,
            stderr=stderr_file,
            env=environment,
            cwd=out,
        ) as process,
        _ended_with_us(process),
    ):
        _wait_for(process, step, job, stdout, deadline, progress)
    printed, logged = (path.read_text(errors="replace") for path in (stdout, stderr))
    return RawRun("host", process.returncode, printed, logged, out)


def _wait_for(
    process: subprocess.Popen[bytes], step: Step, job: Job, stdout: Path, deadline: float, progress: Progress
) -> None:
    lines, looked, told = 0, time.monotonic(), job.told(step.name, 0)
    with stdout.open("rb") as printed:
        while True:
            try:
                process.wait(min(POLL_S, max(0.001, deadline - time.monotonic())))
                return
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                if now - looked >= LOOK_S:
                    lines, looked = lines + printed.read().count(b"\n"), now
                    told = job.told(step.name, lines)
                progress(*told)
                if now >= deadline:
                    raise RunnerError(
                        f"host: {job.title}: the runner was stopped after {job.timeout_s:g} s; allow more with --timeout"
                    ) from None


@contextlib.contextmanager
def _ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the process and its children when this program ends within the block, even by SIGKILL.

    A guard process in a session of its own reads from a pipe that only this program holds open, so the pipe ends with
    the program. Unlike Linux's parent-death signal, this needs neither Linux nor the runner's help, and it reaches
    children.
    """
    guard = subprocess.Popen(
        ["sh", "-c", GUARD, "mobilevd-guard", str(process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()  # before its pipe ends: by then the number may belong to another process
        guard.communicate()


def _pinned(cpu_mask: str | None) -> list[str]:
    """The beginning of a command that runs the rest on the cores of a mask; empty for None."""
    if cpu_mask is None:
        return []
    taskset = shutil.which("taskset")
    if taskset is None:
        raise RunnerError("host: a cpu mask needs the program taskset (util-linux), which is not on PATH")
    allowed = sum(1 << core for core in os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    if allowed and (beyond := int(cpu_mask, 16) & ~allowed):
        raise RunnerError(
            f"host: the cpu mask {cpu_mask} holds cores that are not usable here ({beyond:x}); usable: {allowed:x}"
        )
    return [taskset, cpu_mask]


def usable_cores() -> int | None:
    """Number of cores that this process may run on; fewer than the machine has in a container or under `taskset`."""
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


def _uptime_s() -> float:
    """Seconds since the machine started, by the clock of the runner's `start_ns`."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return round(time.clock_gettime(clock), 3)


def _per_core(name: str) -> list[str]:
    """A frequency-scaling setting of each core, in order; empty where the kernel shows none (most VMs)."""
    values = []
    for core in range(os.cpu_count() or 0):
        try:
            values.append((CPU_FOLDER / f"cpu{core}" / "cpufreq" / name).read_text().strip())
        except OSError:
            continue
    return values
