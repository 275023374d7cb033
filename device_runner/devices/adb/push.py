"""Pushes files to the device with adb's own push; progress is observed from outside, and arrival is checked separately.

Where the system does not report how much a process has read, adb gets a terminal to write its progress to.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from device_runner.devices.adb.client import Adb, Answer, ConnectionLost
from device_runner.devices.started import started
from device_runner.errors import RunnerError

STALL_S = 60.0
"""Silence after which a push counts as dead; adb reports every percent of a file."""
END_S = 10.0
"""What adb may take to end once it said all it had to."""
PAUSE_S = 0.002
"""Pause between reads of adb's output. Releases before 30 write a line for every 64 kB, and reading each at once takes
a core from the transfer (10 % slower); a terminal holds 4 kB of lines, 2.5 MB of data, before adb has to wait."""
LOOK_S = 0.02
"""Interval between looks at the progress; the end is noticed at once."""
IO = Path("/proc/self/io")
SLOW_BYTES_S = 500_000
"""Rate for time limits, slower than any link that is worth measuring over."""


def push(adb: Adb, files: Mapping[str, Path], folder: str, progress: Callable[[str, float], None]) -> None:
    """Push files, each named by its SHA-256, into an existing folder of the device.

    `progress` gets the name of the current file and the finished share of all bytes. The caller has to check what
    arrived: adb counts files as pushed that it did not push whole. Raises `ConnectionLost` for a failure that may pass,
    `RunnerError` when the device is full.
    """
    with tempfile.TemporaryDirectory(prefix="mobilevd-push-") as staging:
        for name, path in files.items():
            _stage(path.absolute(), Path(staging) / name)
        sizes = {name: path.stat().st_size for name, path in files.items()}
        command = ["-s", adb.serial, "push", *adb.program.plain_transfer]
        command += [str(Path(staging) / name) for name in files] + [f"{folder}/"]
        track = _Track(sizes, progress)
        progress(next(iter(files)), 0.0)
        limit = STALL_S + sum(sizes.values()) / SLOW_BYTES_S
        try:
            answer = _by_reads(adb, command, track) if IO.exists() else _on_terminal(adb, command, track)
        except ImportError:  # no pseudo-terminals on Windows: no progress either
            answer = adb.call(*command, timeout=limit)
    if answer.code:
        said = " ".join((answer.stderr + " " + answer.stdout).split())
        if "No space left" in said or "Disk quota" in said:
            raise RunnerError(f"{adb.name}: the device's storage is full ({folder}); free some and try again")
        reason = next((line for line in said.split("adb: ") if "error" in line), said)[-200:]
        raise ConnectionLost(f"{adb.name}: pushing failed ({reason.strip()})")


def _stage(path: Path, link: Path) -> None:
    """Link or copy a file under its name in the store: adb pushes a file under its local name."""
    try:
        link.symlink_to(path)
    except OSError:  # Windows without the right to make links
        shutil.copyfile(path, link)


class _Track:
    """Converts what is seen of adb into the current file and the finished share of all bytes."""

    def __init__(self, sizes: Mapping[str, int], progress: Callable[[str, float], None]) -> None:
        self.sizes, self.progress = sizes, progress
        self.total = sum(sizes.values()) or 1
        self.before: dict[str, int] = {}
        done = 0
        for name, size in sizes.items():
            self.before[name] = done
            done += size

    def bytes_read(self, done: int) -> None:
        """Report progress from the number of bytes that adb has read, which are those of the files in their order."""
        done = min(done, self.total)
        name = [name for name, before in self.before.items() if before <= done][-1]
        self.progress(name, done / self.total)

    def read(self, text: str) -> None:
        """Report progress from adb's own lines ("[ 12%] /data/local/tmp/.../NAME")."""
        lines = re.findall(r"\[\s*(\d{1,3})%\] [^\r\n]*?([0-9a-f]{64})", text)
        if lines and lines[-1][1] in self.sizes:
            percent, name = lines[-1]
            self.progress(name, min(1.0, (self.before[name] + self.sizes[name] * int(percent) / 100) / self.total))


def _by_reads(adb: Adb, command: list[str], track: _Track) -> Answer:
    """Push, with progress from the number of bytes that adb has read, as Linux reports it. Unlike adb's own lines, one
    for every 64 kB, this costs the push nothing (adb 29's lines take a sixth of the time on a link of 1 GB/s)."""
    command = [adb.program.path, *command]
    with started("the adb program", command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        done, moved = 0, time.monotonic()
        while True:
            with suppress(subprocess.TimeoutExpired):
                said, _ = process.communicate(timeout=LOOK_S)
                return Answer(process.returncode, said.decode(errors="replace"), "")
            adb.check_cancelled()
            now = _bytes_read(process.pid)
            if now > done:
                done, moved = now, time.monotonic()
                track.bytes_read(done)
            elif time.monotonic() - moved > STALL_S:
                raise ConnectionLost(f"{adb.name}: pushing stands still since {STALL_S:g} s")


def _bytes_read(pid: int) -> int:
    """Number of bytes that a process has read; 0 for one that has just ended."""
    try:
        text = Path(f"/proc/{pid}/io").read_text()
    except OSError:
        return 0
    found = re.search(r"^rchar: (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def _on_terminal(adb: Adb, command: list[str], track: _Track) -> Answer:
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    try:
        # Wide enough that no release shortens the names by which its lines are recognised.
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 400, 0, 0))
        command, environment = [adb.program.path, *command], {**os.environ, "TERM": "xterm"}
        with started("the adb program", command, stdout=slave, stderr=slave, env=environment) as process:
            os.close(slave)
            slave = -1
            said = _listen(adb, process, master, track)
            try:
                return Answer(process.wait(timeout=END_S), said, "")
            except subprocess.TimeoutExpired:
                raise ConnectionLost(f"{adb.name}: adb said all it had to and did not end in {END_S:g} s") from None
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)


def _listen(adb: Adb, process: subprocess.Popen[bytes], master: int, track: _Track) -> str:
    said, heard = "", time.monotonic()
    while True:
        adb.check_cancelled()
        if select.select([master], [], [], 0.2)[0]:
            piece = b""
            with suppress(OSError):  # Linux ends a terminal whose last writer left with an error
                piece = os.read(master, 1 << 16)
            if not piece:
                return said
            said = (said + piece.decode(errors="replace"))[-4000:]
            track.read(said[-500:])
            heard = time.monotonic()
            time.sleep(PAUSE_S)
        elif process.poll() is not None:
            return said
        elif time.monotonic() - heard > STALL_S:
            raise ConnectionLost(f"{adb.name}: pushing stands still since {STALL_S:g} s")
