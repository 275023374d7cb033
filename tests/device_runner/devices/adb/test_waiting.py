"""A device that comes back in its own time is left to do so: a fake adb, by a clock that only this test moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from device_runner.devices.adb import client
from device_runner.devices.adb.client import Adb, Answer, ConnectionLost
from device_runner.devices.adb.program import AdbProgram

State = Callable[[float], str | None]
"""Seconds since the device was lost, or was kicked -> the state that adb lists it under."""


class FakeAdb(Adb):
    """Loses its device at 0 s; `kicks` says when it was told to tear the connection down, after which all begins anew."""

    def __init__(
        self, serial: str, state: State, monkeypatch: pytest.MonkeyPatch, after_kick: State | None = None
    ) -> None:
        super().__init__(AdbProgram("adb", "test", "36", (36,)), serial)
        self.now, self.begun, self.state, self.after_kick = 0.0, 0.0, state, after_kick or state
        self.kicks: list[float] = []
        self.connects = 0
        monkeypatch.setattr(client.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(self.cancelled, "wait", self.sleep)

    def sleep(self, seconds: float) -> bool:
        self.now += seconds
        return False

    def call(self, *arguments: str, timeout: float = 20.0) -> Answer:
        self.now += 0.01
        state = self.state(self.now - self.begun)
        match arguments:
            case ["devices", *_]:
                listed = f"{self.serial}  {state}\n" if state else ""
                return Answer(0, f"List of devices attached\n{listed}", "")
            case ["-s", self.serial, "reconnect"]:
                self.kicks.append(self.now)
                self.begun, self.state = self.now, self.after_kick
                return Answer(0, "", "")
            case ["-s", self.serial, "shell", command] if state == "device":
                mark = command.partition("echo; echo ")[2].partition(" ")[0]
                return Answer(0, f"\n{mark} 0\n", "")
            case ["-s", self.serial, "shell", _]:
                said = f"device {state}" if state else f"device '{self.serial}' not found"
                return Answer(1, "", f"error: {said}\n")
            case ["connect" | "disconnect", _]:
                self.connects += 1
                return Answer(0, "", "")
        raise AssertionError(arguments)


def handshake(seconds: float, state: str) -> State:
    """Absent for 1.2 s, then so long in a state on its way."""
    return lambda age: None if age < 1.2 else state if age < 1.2 + seconds else "device"


@pytest.mark.parametrize("seconds", [0.2, 0.5, 3.0, 30.0])
@pytest.mark.parametrize("state", ["connecting", "authorizing", "unauthorized"])
def test_a_slow_handshake_is_not_disturbed(monkeypatch: pytest.MonkeyPatch, seconds: float, state: str) -> None:
    adb = FakeAdb("R58M12", handshake(seconds, state), monkeypatch)
    adb.wait_back(120)
    assert adb.kicks == [] and adb.connects == 0
    assert 1.2 + seconds <= adb.now < 1.2 + seconds + 1


def test_a_handshake_that_shows_as_offline_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    adb = FakeAdb("R58M12", handshake(9, "offline"), monkeypatch)
    adb.wait_back(120)
    assert adb.kicks == []


@pytest.mark.parametrize("state", ["offline", "device"])
def test_a_connection_that_stays_dead_is_torn_down(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """`device` too: adb believes it is there, but no command comes back."""

    class Mute(FakeAdb):
        def shell_answer(self, command: str, timeout: float = 20.0) -> Answer:
            if not self.kicks:
                self.now += timeout
                raise ConnectionLost("no answer")
            return super().shell_answer(command, timeout)

    adb = Mute("R58M12", lambda age: state, monkeypatch, handshake(5, "authorizing"))
    adb.wait_back(120)
    assert len(adb.kicks) == 1 and adb.kicks[0] >= 10
    never = FakeAdb("R58M12", lambda age: "offline", monkeypatch)
    with pytest.raises(ConnectionLost, match=r"did not come back within 120 s \(adb lists it as offline: replug it"):
        never.wait_back(120)
    assert 5 <= len(never.kicks) <= 10
    assert min(after - before for before, after in zip(never.kicks, never.kicks[1:], strict=False)) >= 10


@pytest.mark.parametrize("state", [None, "offline", "device", "authorizing"])
def test_a_device_known_by_its_name_on_the_network_is_left_to_adb(
    monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    adb = FakeAdb("adb-X (2)._adb-tls-connect._tcp", lambda age: state if age < 60 else "device", monkeypatch)
    if state == "device":
        monkeypatch.setattr(adb, "answers", lambda: adb.now > 60)
    adb.wait_back(120)
    assert adb.kicks == [] and adb.connects == 0 and adb.now >= 60


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "adb does not list it"),
        ("unauthorized", "adb lists it as unauthorized: unlock it and accept"),
        ("recovery", "adb lists it as recovery: start Android on it"),
    ],
)
def test_the_last_state_is_told(monkeypatch: pytest.MonkeyPatch, state: str | None, said: str) -> None:
    adb = FakeAdb("R58M12", lambda age: state, monkeypatch)
    with pytest.raises(ConnectionLost, match=f"did not come back within 30 s [(]{said}"):
        adb.wait_back(30)
    assert adb.kicks == [] and adb.now >= 30


def test_an_address_whose_user_is_asked_is_not_connected_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    adb = FakeAdb("192.168.1.4:5555", lambda age: "unauthorized" if age < 9 else "device", monkeypatch)
    adb.wait_back(30)
    assert adb.connects == 0
    lost = FakeAdb("192.168.1.4:5555", lambda age: None if age < 9 else "device", monkeypatch)
    lost.wait_back(30)
    assert lost.connects > 2 and lost.kicks == []


def test_missing_rights_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    adb = FakeAdb("R58M12", lambda age: None, monkeypatch)
    said = "error: insufficient permissions for device: user in plugdev group; are your udev rules wrong?\n"
    monkeypatch.setattr(adb, "call", lambda *arguments, timeout=20.0: Answer(1, "", said))
    with pytest.raises(ConnectionLost, match=r"\(no permissions\): let your user open it \(Linux: udev rules"):
        adb.shell("true")
