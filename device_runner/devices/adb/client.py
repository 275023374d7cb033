"""Runs the adb program; a command in a device's shell counts as ended only if the device itself reports its end."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from device_runner.devices.adb.program import AdbProgram
from device_runner.devices.started import started
from device_runner.errors import DeviceGone, RunnerError

QUICK_S = 20.0
"""Time limit that is enough for a command that does next to nothing, on a busy phone and a slow link."""
KICK_S = 12.0
"""Seconds for which a plugged-in device must be unusable before its connection is torn down for a fresh one."""


MAX_SAID_BYTES = 64 << 20
"""Of a command's output; the longest is a job's log."""


class ConnectionLost(DeviceGone):
    """Loss of the link before a command was seen to end; what the command did is not known."""


@dataclass(frozen=True)
class Answer:
    """The result of a command: of adb itself, or of the command on the device."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Listed:
    """A line of `adb devices`."""

    serial: str
    state: str
    details: str = ""

    @property
    def usable(self) -> bool:
        return self.state == "device"

    def __str__(self) -> str:
        return " ".join(part for part in (self.serial, f"({self.state})", self.details) if part)


# State of a device other than `device` -> advice to the user.
REMEDIES = {
    "unauthorized": "unlock it and accept the question whether to allow USB debugging from this computer",
    "authorizing": "unlock it and accept the question whether to allow USB debugging from this computer",
    "offline": "replug it, or reconnect it with: adb reconnect offline",
    "connecting": "wait until it is connected",
    "no permissions": "let your user open it (Linux: udev rules and the group plugdev), then replug it",
    "recovery": "start Android on it",
    "sideload": "start Android on it",
    "rescue": "start Android on it",
    "bootloader": "start Android on it",
}
# adb's wording when it refuses a device -> the state that `adb devices` lists it under.
REFUSALS = {"unauthorized": "unauthorized", "insufficient permissions": "no permissions"}
_STATES = "|".join(["device", "host", "detached", *REMEDIES])
_LINE = re.compile(rf"^(?P<serial>\S.*?)\s+(?P<state>{_STATES})\b(?P<rest>.*)$")


class Client:
    """The adb program, for calls about no device or all. It never stops the server: others may be using it."""

    def __init__(self, program: AdbProgram) -> None:
        self.program = program
        self.cancelled = threading.Event()
        """Event to set from another thread: the next call, or the one under way, raises KeyboardInterrupt."""

    def call(self, *arguments: str, timeout: float = QUICK_S) -> Answer:
        """Run adb itself; raises `ConnectionLost` if it does not end within `timeout` seconds."""
        self.check_cancelled()
        # Into files, not into memory: what a device says has no end if it does not want one.
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            command = [self.program.path, *arguments]
            with started("the adb program", command, stdout=stdout, stderr=stderr) as process:
                self._wait(process, time.monotonic() + timeout, (stdout, stderr))
            told = [_content(file) for file in (stdout, stderr)]
        return Answer(process.returncode, *told)

    def _wait(self, process: subprocess.Popen[bytes], end: float, files: tuple[IO[bytes], IO[bytes]]) -> None:
        while True:
            try:
                process.wait(timeout=min(0.5, max(0.01, end - time.monotonic())))
                return
            except subprocess.TimeoutExpired:
                self.check_cancelled()
                if any(os.fstat(file.fileno()).st_size > MAX_SAID_BYTES for file in files):
                    raise RunnerError(f"adb said more than {MAX_SAID_BYTES >> 20} MiB; the device floods it") from None
                if time.monotonic() > end:
                    raise ConnectionLost("adb does not answer") from None

    def check_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise KeyboardInterrupt

    def devices(self) -> list[Listed]:
        """All devices that adb knows, in any state; starts adb's server if none runs."""
        answer = self.call("devices", "-l", timeout=60)
        if answer.code:
            raise RunnerError(f"`{self.program.path} devices` failed: {last_line(answer)}")
        lines = answer.stdout.splitlines()
        # The server's own announcements ("* daemon started successfully") come before the heading.
        start = next((index for index, line in enumerate(lines) if line.startswith("List of devices")), len(lines))
        found = [match for line in lines[start + 1 :] if (match := _LINE.match(line))]
        return [Listed(match["serial"], match["state"], _details(match["rest"])) for match in found]


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(MAX_SAID_BYTES).decode(errors="replace")


def _details(rest: str) -> str:
    model = re.search(r"\bmodel:(\S+)", rest)
    return model[1] if model else ""


def last_line(answer: Answer) -> str:
    """The reason of a failure in adb's words: the last line that it printed."""
    told = answer.stderr if answer.stderr.strip() else answer.stdout
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return lines[-1].removeprefix("adb: ").removeprefix("error: ") if lines else f"exit code {answer.code}, no message"


def storage_full(name: str) -> str:
    """The error message for a device without free storage."""
    return f"{name}: the device's storage is full; free some and try again"


class Adb(Client):
    """The adb program for one device, which every call names by its serial."""

    def __init__(self, program: AdbProgram, serial: str) -> None:
        super().__init__(program)
        self.serial = serial
        self.name = f"adb:{serial}"

    @property
    def over_network(self) -> bool:
        """True if the serial is an address, which adb forgets when the link drops (`adb connect` brings it back)."""
        return re.fullmatch(r"\S+:\d{1,5}", self.serial) is not None

    @property
    def plugged_in(self) -> bool:
        """True if the device is connected by cable, rather than by an address or a name announced on the network."""
        return not self.over_network and "._adb" not in self.serial

    def device_call(self, *arguments: str, timeout: float = QUICK_S) -> Answer:
        try:
            return self.call("-s", self.serial, *arguments, timeout=timeout)
        except ConnectionLost:
            raise ConnectionLost(f"{self.name}: no answer within {timeout:g} s") from None

    def shell_answer(self, command: str, timeout: float = QUICK_S) -> Answer:
        """Run a command string in the device's shell.

        Neither adb's exit code nor its output alone is trusted: the device appends a random mark, which cannot be there
        by chance, and the command's exit code. Raises `ConnectionLost` if the mark does not arrive.
        """
        mark = f"ended-{secrets.token_hex(8)}"
        # `trap` and `echo` are shell builtins everywhere (`printf` is not on Android), so the mark is printed even when
        # no process can be created any more for lack of memory.
        end = f"trap 'code=$?; echo; echo {mark} $code' EXIT"
        answer = self.device_call("shell", f"{end}\n{command}\n", timeout=timeout)
        stdout = answer.stdout.replace("\r\n", "\n")
        text, found, code = stdout.rpartition(f"\n{mark} ")
        if not found or not re.fullmatch(r"\d+\n", code):
            raise self.lost(answer)
        return Answer(int(code), text, answer.stderr.replace("\r\n", "\n"))

    def shell(self, command: str, timeout: float = QUICK_S) -> str:
        """The output of a command that must succeed; otherwise like `shell_answer`."""
        answer = self.shell_answer(command, timeout)
        if answer.code:
            if "No space left" in answer.stderr:
                raise RunnerError(storage_full(self.name))
            raise RunnerError(
                f"{self.name}: a command on the device failed (exit code {answer.code}): {last_line(answer)}"
            )
        return answer.stdout

    def lost(self, answer: Answer) -> ConnectionLost:
        """The error for a call that was cut off."""
        for said, state in REFUSALS.items():
            if said in answer.stderr:
                return ConnectionLost(f"{self.name} cannot be used ({state}): {REMEDIES[state]}")
        return ConnectionLost(f"{self.name}: the connection was lost ({last_line(answer)})")

    def check_usable(self) -> None:
        """Raise `RunnerError` with advice if the device cannot be used in its present state."""
        listed = self.devices()
        if self.serial not in [device.serial for device in listed] and self.over_network:
            said = self._connect()
            listed = self.devices()
            if self.serial not in [device.serial for device in listed]:
                raise RunnerError(f"{self.name} cannot be reached: {said}")
        state = next((device.state for device in listed if device.serial == self.serial), None)
        if state is None:
            raise RunnerError(f"{self.name} is not connected; adb lists: {', '.join(map(str, listed)) or 'none'}")
        if state == "offline" and self.over_network:
            self.wait_back(10)
        elif state != "device":
            remedy = REMEDIES.get(state, "it must be in the state `device`")
            raise RunnerError(f"{self.name} cannot be used ({state}): {remedy}")

    def _connect(self, timeout: float = QUICK_S) -> str:
        """The message of `adb connect`, whose exit code is 0 even if the connection was refused."""
        try:
            return last_line(self.call("connect", self.serial, timeout=timeout))
        except ConnectionLost:
            return f"no answer within {timeout:g} s"

    def answers(self) -> bool:
        """True if the device answers a command now."""
        try:
            return self.shell_answer(":", timeout=5).code == 0
        except ConnectionLost:
            return False

    def wait_back(self, limit_s: float) -> None:
        """Wait until a lost device answers again; after `limit_s` seconds raise `ConnectionLost` with the last state.

        adb reconnects by itself to a device that is plugged in, or known by its own name on the network; a forced
        reconnect meanwhile would undo the progress of their handshake. An address has to be connected anew.
        """
        end = time.monotonic() + limit_s
        of_no_use_since: float | None = None
        while not self.answers():
            state, now = self._state(), time.monotonic()
            if now >= end:
                raise ConnectionLost(
                    f"{self.name}: the connection was lost and did not come back within {limit_s:g} s ({_in_words(state)})"
                )
            if self.over_network:
                self._connect_anew(state, end - now)
            elif state not in ("offline", "device"):
                of_no_use_since = None  # on its way, waiting for its user, or away
            elif of_no_use_since is None:
                of_no_use_since = now
            elif now - of_no_use_since >= KICK_S and self.plugged_in:
                of_no_use_since = None
                with suppress(ConnectionLost):
                    self.device_call("reconnect", timeout=5)
            self.cancelled.wait(0.3)

    def _connect_anew(self, state: str | None, left_s: float) -> None:
        """Disconnect and connect again: adb may hold a dead connection for minutes, and only a fresh one shows it."""
        if state in ("unauthorized", "authorizing"):
            return  # its user is being asked
        with suppress(ConnectionLost):
            self.call("disconnect", self.serial, timeout=5)
            self._connect(timeout=min(10, left_s + 1))

    def _state(self) -> str | None:
        """The state in `adb devices`; None if the device is not listed or adb itself does not answer."""
        try:
            return next((device.state for device in self.devices() if device.serial == self.serial), None)
        except RunnerError:
            return None


def _in_words(state: str | None) -> str:
    if state is None:
        return "adb does not list it"
    remedy = REMEDIES.get(state)
    return f"adb lists it as {state}" + (f": {remedy}" if remedy else "")


def choose(client: Client, serial: str | None) -> Adb:
    """The device of that serial, or that of `ANDROID_SERIAL` as for adb itself, or the only usable one.

    Raises `RunnerError` for an unusable device, for none at all, or for several to choose from (all are listed).
    """
    if serial:
        adb = Adb(client.program, serial)
        adb.check_usable()
        return adb
    if named := os.environ.get("ANDROID_SERIAL"):
        try:
            return choose(client, named)
        except RunnerError as error:
            raise RunnerError(f"ANDROID_SERIAL is {named}: {error}") from None
    listed = client.devices()
    usable = [device for device in listed if device.usable]
    if len(usable) == 1:
        return Adb(client.program, usable[0].serial)
    if usable:
        example = usable[0].serial
        raise RunnerError(f"several devices are connected: {', '.join(map(str, listed))}; choose one: adb:{example}")
    if not listed:
        raise RunnerError(
            "no device is connected; enable USB debugging on one and connect it, or: adb connect HOST:PORT"
        )
    hints = [f"{device} ({REMEDIES.get(device.state, 'it must be in the state `device`')})" for device in listed]
    raise RunnerError(f"no device is usable: {', '.join(hints)}")
