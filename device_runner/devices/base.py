"""What a device is to whoever measures.

A device runs jobs and hands back what came out, unjudged. Whether it counts is decided in one place for all devices
(`device_runner.measure`), so a new kind of device is one class and a line of `DEVICES` (`devices/__init__.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from device_runner.devices.job import Job, Platform, Progress, RawJob, Ready


class Device(Protocol):
    """A machine that can run a bundle's programs."""

    name: str
    """For results and errors: `host`, or kind and serial (`adb:R58M123`)."""

    @property
    def warning(self) -> str | None:
        """What to know of the tools that drive it before trusting them; None: nothing."""
        ...

    def platform(self) -> Platform:
        """Which binaries it runs."""
        ...

    def describe(self) -> dict[str, Any]:
        """What does not change during a measurement: model, cores, memory, system; ready for JSON."""
        ...

    def state(self) -> dict[str, Any]:
        """What may change and moves a latency: load, frequencies, temperatures; ready for JSON."""
        ...

    def versions(self) -> dict[str, str]:
        """Of the tools that drive it."""
        ...

    def run(self, job: Job, output_dir: Path, ready: Ready, progress: Progress) -> RawJob:
        """Run a job; each step's output files are put into `output_dir/STEP`, `output_dir` being an empty folder.

        Raises `RunnerError` only where there is nothing to hand back (device gone, disk full, time limit). On
        KeyboardInterrupt everything is stopped and removed on the device before it is raised further.
        """
        ...

    def cancel(self) -> None:
        """From another thread: `run` ends as on KeyboardInterrupt, at the latest when it next tells its progress."""
        ...
