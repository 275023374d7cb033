"""Waits until a device is cool: a phone that starts warm is throttled sooner, so its figures are not comparable."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from device_runner.devices.job import Progress
from device_runner.errors import RunnerError
from device_runner.measure.run_progress import duration
from device_runner.protocol.protocol import Protocol

# android.os.PowerManager.THERMAL_STATUS_*
THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
LEAST_COOLED_C = 0.3
"""Fall of the battery's temperature that is worth an estimate: phones tell it in tenths of a degree."""
POLL_S = 10.0
"""Interval between looks: a battery cools by some tenths of a degree a minute, and every look wakes the phone."""


def wait_until_cool(
    read_state: Callable[[], dict[str, Any]],
    protocol: Protocol,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str | None:
    """Wait until the battery is at most `protocol.max_battery_c` warm and the system reports no thermal limit.

    Returns a note for the result: how long it took, or that the device reports no battery temperature and was measured
    at once; None if there was nothing to wait for. Raises `RunnerError` after `protocol.gate_timeout_s` seconds.
    """
    limit = protocol.max_battery_c
    if limit is None:
        return None
    start, first = clock(), None
    while True:
        state = read_state()
        battery_c, status = state.get("battery_c"), state.get("thermal_status")
        first = battery_c if first is None else first
        waited_s = clock() - start
        if battery_c is None and not status:
            return f"the device tells no battery temperature, so it was not waited for one of {limit:g} C or less"
        if not status and battery_c is not None and battery_c <= limit:
            if waited_s < 1:
                return None
            return f"waited {waited_s:.0f} s until the device was cool (battery {_from(first)}{battery_c:.1f} C)"
        reason = _reason(battery_c, status, limit)
        left_s = protocol.gate_timeout_s - waited_s
        if left_s <= 0:
            raise RunnerError(
                f"too warm to be measured: {reason} after {waited_s:.0f} s; let it cool (unplug the charger, take off "
                "the case, out of the sun), or allow more with --gate-timeout or --max-battery"
            )
        progress(f"waiting until the device is cool: {reason}; {_how_long(waited_s, first, battery_c, protocol)}", None)
        sleep(min(POLL_S, left_s))


def _how_long(waited_s: float, first: float | None, battery_c: float | None, protocol: Protocol) -> str:
    """How long it has been waited for, and how much longer it takes if the battery cools on as fast as so far.

    It cools ever more slowly, so the estimate is a lower limit.
    """
    so_far = f"for {duration(waited_s)} so far, " if waited_s >= 1 else ""
    text = f"{so_far}for {duration(protocol.gate_timeout_s)} at most"
    limit = protocol.max_battery_c
    if first is None or battery_c is None or limit is None or battery_c <= limit or first - battery_c < LEAST_COOLED_C:
        return text
    return f"{text}, at least {duration(waited_s * (battery_c - limit) / (first - battery_c))} more at this rate"


def _from(first: float | None) -> str:
    return "" if first is None else f"{first:.1f} -> "


def _reason(battery_c: float | None, status: int | None, limit: float) -> str:
    parts = []
    if battery_c is not None and battery_c > limit:
        parts.append(f"the battery has {battery_c:.1f} C, at most {limit:g} C is wanted")
    if status:
        parts.append(f"the thermal status is {status} ({THERMAL_STATUS[status]}), 0 is wanted")
    return " and ".join(parts)
