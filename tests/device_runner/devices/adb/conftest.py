"""Devices for the tests: a genuine adbd where namespaces and packages allow it, and the stand-in."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from device_runner.devices.adb.client import Adb
from device_runner.devices.adb.device import AdbDevice
from device_runner.devices.adb.program import _wheel_places, find_program
from device_runner.devices.job import Job, Progress, RawJob, Step
from tests.device_runner.devices.adb.standin import StandIn
from tests.device_runner.devices.adb.world import Adbd, Missing, World, start_server, wait_until

ADBS = ("adb-29", "adb-36")
BIG = 3 << 20


@cache
def adb_program(name: str) -> str:
    """The genuine adb of about that release: the system's, and the one in the adbutils wheel."""
    if name == "adb-36":
        return next(str(path) for _, path in _wheel_places())
    found = shutil.which("adb")
    if found is None or find_program(found).release >= (30,):
        pytest.skip("the adb on PATH is not release 29 (Debian 12's package), so its faults cannot be provoked")
    return found


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ADB", raising=False)


@pytest.fixture(scope="session")
def world_or_reason(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World | str]:
    world = None
    try:
        world = World(tmp_path_factory.mktemp("world"))
        world.device().close()
        yield world
    except Missing as missing:
        yield f"no genuine adbd: {missing}"
    finally:
        if world is not None:
            world.close()


@pytest.fixture
def world(world_or_reason: World | str) -> World:
    if isinstance(world_or_reason, str):
        pytest.skip(world_or_reason)
    return world_or_reason


@dataclass
class Phone:
    """A device and the means to treat it badly."""

    device: AdbDevice
    program: Path
    """The adb to drive it with."""
    daemon: Adbd | StandIn

    @property
    def serial(self) -> str:
        return self.device.adb.serial

    def sh(self, command: str) -> str:
        """Run there, not through adb."""
        if isinstance(self.daemon, Adbd):
            return self.daemon.sh(command)
        shell = [*self.daemon.shell, "-c", command]
        return subprocess.run(shell, capture_output=True, text=True, timeout=20).stdout

    def drop(self) -> None:
        """As when the cable is pulled."""
        if isinstance(self.daemon, Adbd):
            self.daemon.kill_adbd()
        else:
            self.daemon.drop()

    def restore(self) -> None:
        if isinstance(self.daemon, Adbd):
            self.daemon.start_adbd()
        else:
            self.daemon.restore()

    @property
    def base(self) -> str:
        """For shell text."""
        return shlex.quote(self.device.base)

    def listing(self, place: str) -> list[str]:
        return sorted(self.sh(f"ls {self.base}/{place} 2>/dev/null").split())

    def processes(self, word: str) -> list[str]:
        """Command lines there that contain the word."""
        told = self.sh("for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f 2>/dev/null; echo; done")
        return [line for line in told.splitlines() if word in line and "/proc/[0-9]" not in line]


@pytest.fixture
def make_phone(world: World) -> Iterator[Callable[..., Phone]]:
    """A genuine adbd: `make_phone("adb-36", size="32m", shell="mksh", shims={...})`."""
    made = []

    def make(adb: str = "adb-36", **settings: Any) -> Phone:
        program = world.adb(adb_program(adb))
        daemon = world.device(**settings)
        made.append((program, daemon))
        daemon.connect(program)
        device = AdbDevice(Adb(find_program(str(program)), daemon.serial), reconnect_s=20)
        return Phone(device, program, daemon)

    yield make
    world.link(up=True)
    for program, daemon in made:
        daemon.close()
        subprocess.run([program, "disconnect", daemon.serial], capture_output=True, timeout=20)


@pytest.fixture(scope="session")
def private_adb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    script, server = start_server(adb_program("adb-36"), tmp_path_factory.mktemp("adb"))
    yield script
    server.kill()
    server.wait()


@pytest.fixture
def make_standin(private_adb: Path, tmp_path: Path) -> Iterator[Callable[..., Phone]]:
    """The stand-in daemon, driven by a genuine adb, with its folder in `tmp_path`."""
    made = []

    def make(**settings: Any) -> Phone:
        daemon = StandIn(**settings)
        made.append(daemon)
        subprocess.run([private_adb, "connect", daemon.serial], capture_output=True, timeout=20, check=True)
        device = AdbDevice(Adb(find_program(str(private_adb)), daemon.serial), str(tmp_path / "phone's base"), 20)
        return Phone(device, private_adb, daemon)

    yield make
    for daemon in made:
        subprocess.run([private_adb, "disconnect", daemon.serial], capture_output=True, timeout=20)
        daemon.close()


def open_phone(request: pytest.FixtureRequest) -> Phone:
    if request.param == "stand-in":
        return request.getfixturevalue("make_standin")()
    return request.getfixturevalue("make_phone")(request.param.split()[1])


@pytest.fixture(params=["adbd adb-29", "adbd adb-36", "stand-in"])
def phone(request: pytest.FixtureRequest) -> Phone:
    return open_phone(request)


@pytest.fixture(params=["adbd adb-36", "stand-in"])
def any_phone(request: pytest.FixtureRequest) -> Phone:
    """Where the release of adb makes no difference."""
    return open_phone(request)


@pytest.fixture
def real_phone(make_phone: Callable[..., Phone]) -> Phone:
    return make_phone("adb-36")


PROGRAM = """#!/bin/sh
echo "arguments: $*"
echo "began" >&2
count=0
while [ $count -lt "${TIMES:-2}" ]; do echo "iteration $count"; sleep 0.1; count=$((count + 1)); done
cp "$1" "$2/copy.bin"
echo "$WORD" > "$2/word.txt"
"""


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """A job of one step that prints `times` lines in as many tenths of a second, and hands two files back."""
    folder = tmp_path / "job's files"
    folder.mkdir()
    (folder / "run me").write_text(PROGRAM)

    def make(
        times: int = 2,
        key: str = "one",
        content: bytes | None = None,
        steps: tuple[Step, ...] | None = None,
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Job:
        (folder / "program.pte").write_bytes(content if content is not None else bytes(range(256)) * (BIG // 256))
        timed = Step(
            "timed",
            ("{files}/runner/it's; run", "{files}/program.pte", "{out}"),
            ("copy.bin", "word.txt"),
            {"TIMES": str(times), "WORD": "a 'b;\n$c", **(environment or {})},
        )
        job = {
            "key": hashlib.sha256(key.encode()).hexdigest(),
            "title": "bundle, unet",
            "files": {"program.pte": folder / "program.pte", "runner/it's; run": folder / "run me"},
            "executables": frozenset({"runner/it's; run"}),
            "sha256": {},
            "steps": steps or (timed,),
            "timeout_s": 60.0,
        }
        return Job(**(job | settings))

    return make


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RawJob]:
    """Run a job on a phone; its outputs go to a fresh folder each time."""
    count = 0

    def run(
        phone: Phone, job: Job, progress: Progress | None = None, ready: Callable[[], None] | None = None
    ) -> RawJob:
        nonlocal count
        count += 1
        output = tmp_path / f"output-{count}"
        output.mkdir()
        return phone.device.run(job, output, ready or (lambda: None), progress or (lambda what, share: None))

    return run


def check_results(raw: RawJob, job: Job) -> None:
    """All that the step of `make_job` leaves has arrived, byte for byte."""
    timed = raw.steps["timed"]
    times = int(job.steps[0].environment["TIMES"])
    assert timed.exit_code == 0 and timed.stderr == "began\n"
    assert timed.stdout.splitlines()[1:] == [f"iteration {index}" for index in range(times)]
    assert (timed.output_dir / "copy.bin").read_bytes() == job.files["program.pte"].read_bytes()
    assert (timed.output_dir / "word.txt").read_text() == "a 'b;\n$c\n"
    assert sorted(path.name for path in timed.output_dir.iterdir()) == ["copy.bin", "word.txt"]


def later(seconds: float, action: Callable[[], None]) -> None:
    """Do something while the test goes on."""
    import threading

    def act() -> None:
        time.sleep(seconds)
        action()

    threading.Thread(target=act, daemon=True).start()


__all__ = ["Phone", "check_results", "later", "wait_until"]
