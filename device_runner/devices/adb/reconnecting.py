"""A device on adb whose link may drop and come back: an action that may be repeated is, until it succeeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from device_runner.devices.adb.client import Adb, ConnectionLost
from device_runner.devices.adb.state import read_state
from device_runner.devices.adb.survey import BASE

Result = TypeVar("Result")

RECONNECT_S = 120.0
"""Seconds to wait for a lost device."""
RETRIES = 5
"""Attempts at one action, each after the device came back."""


class ReconnectingDevice:
    """A device behind a link that drops. `adb` is the program for its serial, `base` our folder there; `reconnects`
    counts the lost links."""

    def __init__(self, adb: Adb, base: str = BASE, reconnect_s: float = RECONNECT_S) -> None:
        self.adb, self.base, self.reconnect_s = adb, base, reconnect_s
        self.name = adb.name
        self.reconnects = 0

    def held(self, action: Callable[[], Result]) -> Result:
        """Do an action that may be repeated, again whenever the link was lost and came back."""
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
        """The output of a command on the device, whatever its exit code; the command may run twice if the link drops."""
        return self.held(lambda: self.adb.shell_answer(command)).stdout

    def state(self) -> dict[str, Any]:
        """Facts that may change and that affect latency; ready for JSON."""
        return read_state(self.shell)
