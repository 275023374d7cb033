"""A device on adb whose link may drop and come back: what may be repeated is, until it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from device_runner.devices.adb.client import Adb, ConnectionLost
from device_runner.devices.adb.state import read_state
from device_runner.devices.adb.survey import BASE

Result = TypeVar("Result")

RECONNECT_S = 120.0
"""A lost device is waited for so long."""
RETRIES = 5
"""Of one thing to do, each after the device came back."""


class ReconnectingDevice:
    """`adb` is the program for the device's serial, `base` our folder there; `reconnects` counts the lost links."""

    def __init__(self, adb: Adb, base: str = BASE, reconnect_s: float = RECONNECT_S) -> None:
        self.adb, self.base, self.reconnect_s = adb, base, reconnect_s
        self.name = adb.name
        self.reconnects = 0

    def held(self, action: Callable[[], Result]) -> Result:
        """Do what may be repeated, again whenever the link was lost and came back."""
        for left in reversed(range(RETRIES)):
            try:
                return action()
            except ConnectionLost:
                if not left:
                    raise
                self.adb.wait_back(self.reconnect_s)
                self.reconnects += 1
        raise AssertionError("not reached")

    def shell(self, command: str) -> str:
        """What a command prints on the device, whatever its exit code; it may be run twice, if the link drops."""
        return self.held(lambda: self.adb.shell_answer(command)).stdout

    def state(self) -> dict[str, Any]:
        """What may change and moves a latency; ready for JSON."""
        return read_state(self.shell)
