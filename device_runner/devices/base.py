"""The contract between devices and the measuring code.

A device runs jobs and hands back their raw results. `device_runner.measure` alone decides whether these count, so a new
kind of device is one class and a line of `DEVICES` (`devices/kinds.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from device_runner.devices.job import Job, Platform, Progress, RawJob, Ready


class Device(Protocol):
    """A machine that can run a bundle's programs."""

    name: str
    """Name in results and errors: `host`, or kind and serial (`adb:R58M123`)."""

    @property
    def warning(self) -> str | None:
        """A caution about the tools that drive the device; None if there is none."""
        ...

    def platform(self) -> Platform:
        """The platform, which decides the binaries that the device runs."""
        ...

    def describe(self) -> dict[str, Any]:
        """Facts that stay the same during a measurement: model, cores, memory, system; ready for JSON."""
        ...

    def state(self) -> dict[str, Any]:
        """Facts that may change and that affect latency: load, frequencies, temperatures; ready for JSON."""
        ...

    def versions(self) -> dict[str, str]:
        """Name -> version of the tools that drive the device."""
        ...

    def run(self, job: Job, output_dir: Path, ready: Ready, progress: Progress) -> RawJob:
        """Run a job; each step's output files are put into `output_dir/STEP`, `output_dir` being an empty folder.

        Raises `RunnerError` only if there is nothing to hand back (device gone, disk full, time limit). On
        KeyboardInterrupt, everything on the device is stopped and removed before the exception goes on.
        """
        ...

    def cancel(self) -> None:
        """End `run` from another thread as on KeyboardInterrupt, at the latest when it next reports progress."""
        ...
