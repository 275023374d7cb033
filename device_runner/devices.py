"""What a device is to the measuring protocol, and the list of those known.

A device runs jobs and hands back what came out, unjudged. Whether it counts is decided in one place for all devices
(`measure`), so a new kind of device is one class and one line in `KINDS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from device_runner.errors import RunnerError
from device_runner.job import Job, Platform, Progress, RawJob, Ready


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


# Kind -> module and class, loaded when asked for. `from_argument` takes what follows the colon in `KIND:ARGUMENT` and
# the adb program (None: found), `find_all` lists every device of the kind.
KINDS = {
    "host": ("device_runner.host", "HostDevice"),
    "adb": ("device_runner.adb.device", "AdbDevice"),
    "iphone": ("device_runner.coreml.device", "IphoneDevice"),
}
ALL = "all"


def open_device(device: str, adb: str | None = None) -> Device:
    """The device that `KIND` or `KIND:ARGUMENT` names; `RunnerError` lists the known kinds."""
    kind, _, argument = device.partition(":")
    if device == ALL:
        raise RunnerError(f"one device is needed here, not {ALL}; there are: {', '.join(KINDS)}")
    if kind not in KINDS:
        raise RunnerError(f"unknown device {device!r}; known: {', '.join(KINDS)}, {ALL}")
    module, name = KINDS[kind]
    make: Callable[..., Device] = getattr(importlib.import_module(module), name).from_argument
    return make(argument, adb)


def open_devices(devices: list[str], adb: str | None = None) -> list[Device]:
    """The devices that the names stand for, each once; `all` is every phone that adb lists as usable."""
    opened: dict[str, Device] = {}
    for name in devices:
        if name == ALL:
            module, kind = KINDS["adb"]
            found: list[Device] = getattr(importlib.import_module(module), kind).find_all(adb)
        else:
            found = [open_device(name, adb)]
        opened |= {device.name: device for device in found}
    return list(opened.values())
