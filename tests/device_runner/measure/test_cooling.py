"""The temperature gate, with a clock and a battery that obey the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from device_runner.errors import RunnerError
from device_runner.measure.cooling import wait_until_cool
from device_runner.protocol.protocol import Protocol

GATED = Protocol(name="gated", max_battery_c=37.0, gate_timeout_s=600)


class Device:
    """A device whose state is a function of the seconds since the test began; sleeping moves the clock."""

    def __init__(self, state_at: Callable[[float], dict[str, Any]]) -> None:
        self.state_at, self.now_s, self.looks, self.said = state_at, 0.0, 0, []

    def wait(self, protocol: Protocol = GATED) -> str | None:
        return wait_until_cool(self.read, protocol, self.progress, clock=lambda: self.now_s, sleep=self.sleep)

    def read(self) -> dict[str, Any]:
        self.looks += 1
        return self.state_at(self.now_s)

    def progress(self, text: str, done: float | None) -> None:
        self.said.append(text)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


def cooling(celsius: float, per_minute: float, status_until_s: float = 0) -> Callable[[float], dict[str, Any]]:
    return lambda t: {"battery_c": celsius - per_minute * t / 60, "thermal_status": 2 if t < status_until_s else 0}


def test_a_cool_device_is_measured_at_once_without_a_note() -> None:
    device = Device(cooling(30.0, 0))
    assert device.wait() is None
    assert (device.looks, device.now_s) == (1, 0)


def test_it_waits_until_the_battery_has_cooled() -> None:
    device = Device(cooling(39.0, 0.5))
    assert device.wait() == "waited 240 s until the device was cool (battery 39.0 -> 37.0 C)"
    assert device.now_s == 240, "0.5 C a minute from 39 to 37 C"
    waiting = "waiting until the device is cool: the battery has"
    assert device.said[0] == f"{waiting} 39.0 C, at most 37 C is wanted; for 10 min at most"
    # half of the 2 C in two minutes
    halfway = f"{waiting} 38.0 C, at most 37 C is wanted; for 2 min so far, for 10 min at most"
    assert device.said[12] == f"{halfway}, at least 2 min more at this rate"


def test_exactly_the_limit_is_cool() -> None:
    assert Device(cooling(37.0, 0)).wait() is None
    assert Device(cooling(37.1, 60)).wait() is not None


def test_it_waits_for_the_systems_thermal_status_too() -> None:
    device = Device(cooling(35.0, 0, status_until_s=45))
    assert (device.wait() or "").startswith("waited 50 s")
    assert device.said[0].endswith("the thermal status is 2 (moderate), 0 is wanted; for 10 min at most")
    assert device.said[-1].endswith("0 is wanted; for 40 s so far, for 10 min at most")


def test_a_device_that_stays_warm_is_refused_in_one_line() -> None:
    device = Device(cooling(41.5, 0))
    with pytest.raises(RunnerError) as error:
        device.wait()
    assert str(error.value) == (
        "too warm to be measured: the battery has 41.5 C, at most 37 C is wanted after 600 s; let it cool (unplug the "
        "charger, take off the case, out of the sun), or allow more with --gate-timeout or --max-battery"
    )
    assert device.now_s == 600, "not earlier and not later"


def test_a_short_time_limit_still_looks_again_at_its_end() -> None:
    device = Device(cooling(37.5, 30))
    assert device.wait(Protocol(max_battery_c=37.0, gate_timeout_s=5)) is not None
    assert device.now_s == 5


def test_without_a_battery_temperature_it_is_measured_at_once_and_the_note_says_so() -> None:
    device = Device(lambda t: {"battery_c": None, "thermal_status": None})
    assert "no battery temperature" in (device.wait() or "")
    assert device.now_s == 0


def test_without_a_gate_the_device_is_not_even_asked() -> None:
    device = Device(cooling(60.0, 0))
    assert device.wait(Protocol()) is None
    assert device.looks == 0
