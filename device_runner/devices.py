"""What a device is to the measuring protocol, and the list of those known.

A device runs one program of a bundle and hands back what came out, unjudged. Whether it counts is decided in
one place for all devices (`measure`), so a new kind of device is one class and one line in `KINDS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from device_runner.bundle import Bundle, Program
from device_runner.errors import RunnerError
from device_runner.protocol import Protocol as MeasuringProtocol


@dataclass(frozen=True)
class RawRun:
    """What one run of the runner left, before anything of it is believed."""

    device: str
    exit_code: int
    """Negative N: killed by signal N."""
    stdout: str
    stderr: str
    output_dir: Path
    """On this machine; holds the output files that the events name."""


class Device(Protocol):
    """A machine that can run a bundle's programs."""

    name: str
    """For results and errors: `host`, or kind and serial."""

    def describe(self) -> dict[str, Any]:
        """What does not change during a measurement: model, cores, memory, system; ready for JSON."""
        ...

    def state(self) -> dict[str, Any]:
        """What may change and moves a latency: load, frequencies, temperatures; ready for JSON."""
        ...

    def versions(self) -> dict[str, str]:
        """Of the runner, its runtime and the tools that drove it."""
        ...

    def run(self, bundle: Bundle, program: Program, protocol: MeasuringProtocol, output_dir: Path) -> RawRun:
        """Run once under the protocol and put the output files into `output_dir`, an empty folder.

        Raises `RunnerError` only where there is nothing to hand back (device gone, time limit).
        """
        ...


# Kind -> module and class, loaded when asked for; the class takes what follows the colon in `KIND:ARGUMENT`.
KINDS = {"host": ("device_runner.host", "HostDevice")}


def open_device(device: str) -> Device:
    """The device that `KIND` or `KIND:ARGUMENT` names; `RunnerError` lists the known kinds."""
    kind, _, argument = device.partition(":")
    if kind not in KINDS:
        raise RunnerError(f"unknown device {device!r}; known: {', '.join(KINDS)}")
    module, name = KINDS[kind]
    make: Callable[[str], Device] = getattr(importlib.import_module(module), name).from_argument
    return make(argument)
