"""One bench per phone: a measurement beside another is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_runner.building.cache import default_cache_dir
from device_runner.devices.lock import hold
from device_runner.errors import RunnerError

PATIENCE_S = 0.5
"""A process that was killed while it started adb holds on, through that child, until adb has begun."""


def place(serial: str, ending: str) -> Path:
    """A file of ours about one device; serials may hold anything."""
    folder = default_cache_dir() / "adb"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunnerError(f"{folder}: cannot be made: {error.strerror}; set MOBILEVD_CACHE to another folder") from None
    return folder / f"{re.sub('[^A-Za-z0-9.-]', lambda match: f'_{ord(match[0]):x}', serial)}.{ending}"


@contextmanager
def sole_use(serial: str) -> Iterator[None]:
    """Hold the device for this process; `RunnerError` names the one that holds it."""

    def busy(holder: str) -> str:
        return f"adb:{serial} is in use by process {holder}; a measurement beside another is none"

    with hold(place(serial, "lock"), PATIENCE_S, busy):
        yield
