"""Lock that allows one benchmark at a time on a phone: two at once disturb each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_runner.building.cache import default_cache_dir
from device_runner.building.private import make_private
from device_runner.devices.lock import hold

PHONES = "adb"
"""Name of the cache's folder of files about phones."""
COLLECTED = "collected"
"""Ending of the name of a note: runs on a phone whose results were handed over."""
PATIENCE_S = 0.5
"""Time to wait for the lock: a process killed while starting adb holds it, through that child, until adb has begun."""


def place(serial: str, ending: str) -> Path:
    """The path of a local file about one device; characters that a file name cannot hold are escaped."""
    folder = make_private(default_cache_dir() / PHONES)
    return folder / f"{re.sub('[^A-Za-z0-9.-]', lambda match: f'_{ord(match[0]):x}', serial)}.{ending}"


@contextmanager
def sole_use(serial: str) -> Iterator[None]:
    """Hold the device for this process; raises `RunnerError` naming the process that holds it already."""

    def busy(holder: str) -> str:
        return f"adb:{serial} is in use by process {holder}; a measurement beside another is none"

    with hold(place(serial, "lock"), PATIENCE_S, busy):
        yield
