"""A network of the test's own: adb servers, and devices that are a genuine adbd in namespaces."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

ROOT_PACKAGES = "adbd,mksh,busybox"
NEEDED = ("unshare", "nsenter", "ip", "mount")
ADBD = "usr/lib/android-sdk/platform-tools/adbd"


class Missing(Exception):
    """Why this machine cannot have such devices."""


def adbd_root() -> Path:
    """A Debian root with adbd in it: `$MOBILEVD_TEST_ROOT`, or made once in the cache."""
    given = os.environ.get("MOBILEVD_TEST_ROOT")
    root = Path(given) if given else Path.home() / ".cache" / "mobilevd-tests" / "adbd-trixie"
    if (root / ADBD).exists():
        (root / "data").mkdir(exist_ok=True)
        return root
    if given:
        raise Missing(f"$MOBILEVD_TEST_ROOT is {given}, which has no {ADBD}")
    if not shutil.which("mmdebstrap"):
        raise Missing("mmdebstrap is not installed, so no root with adbd can be made")
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(root.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once
        if not root.exists():
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            command = ["mmdebstrap", "--variant=apt", f"--include={ROOT_PACKAGES}", "trixie", str(part)]
            made = subprocess.run(command, capture_output=True, text=True)
            if made.returncode:
                raise Missing(f"mmdebstrap cannot make a root with adbd: {made.stderr.strip()[-300:]}")
            (part / "data").mkdir(exist_ok=True)
            part.rename(root)
    return root


class World:
    """A network namespace with nothing but a loopback interface."""

    def __init__(self, folder: Path) -> None:
        missing = [name for name in NEEDED if not shutil.which(name)]
        if not sys.platform.startswith("linux") or missing:
            raise Missing(f"this machine has no {', '.join(missing) or 'namespaces'}")
        self.folder = folder
        self.root = adbd_root()
        self.devices: list[Adbd] = []
        self.servers: dict[str, tuple[Path, subprocess.Popen[bytes]]] = {}
        self._port = 5601
        user = [] if os.geteuid() == 0 else ["-U", "-r"]
        self.holder = subprocess.Popen(
            ["unshare", *user, "-n", "sh", "-c", "ip link set lo up && echo up && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.holder.stdout is not None and self.holder.stderr is not None
        if self.holder.stdout.readline().strip() != b"up":
            raise Missing(f"no network namespace can be made: {self.holder.stderr.read().decode().strip()}")
        self.enter = ["nsenter", "-t", str(self.holder.pid), "-n", *(["-U", "--preserve-credentials"] if user else [])]

    def link(self, up: bool) -> None:
        """Like a cable: connections neither end nor carry anything while it is down."""
        subprocess.run([*self.enter, "ip", "link", "set", "lo", "up" if up else "down"], check=True)

    def adb(self, program: str) -> Path:
        """A script that is that adb with a server of its own in this network; clients reach it by a file."""
        if program not in self.servers:
            home = self.folder / f"adb-{len(self.servers)}"
            home.mkdir()
            self.servers[program] = start_server(program, home, self.enter)
        return self.servers[program][0]

    def device(self, **settings: Any) -> Adbd:
        device = Adbd(self, self._port, **settings)
        self._port += 1
        self.devices.append(device)
        return device

    def close(self) -> None:
        for device in self.devices:
            device.close()
        for _, server in self.servers.values():
            server.kill()
            server.wait()
        self.holder.kill()
        self.holder.wait()


def start_server(program: str, home: Path, enter: list[str] | None = None) -> tuple[Path, subprocess.Popen[bytes]]:
    """An adb server that listens on a file in `home`, and a script that runs that adb as its client."""
    socket = home / "s"
    environment = {"HOME": str(home), "TMPDIR": str(home), "ADB_SERVER_SOCKET": f"localfilesystem:{socket}"}
    environment |= {"ADB_LIBUSB": "0", "ADB_MDNS": "0"}
    server = subprocess.Popen(
        [*(enter or []), program, "-L", environment["ADB_SERVER_SOCKET"], "server", "nodaemon"],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=open(home / "server.log", "wb"),  # noqa: SIM115
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    script = home / "adb"
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    script.write_text(f'#!/bin/sh\nexec env {settings} {shlex.quote(program)} "$@"\n')
    script.chmod(0o755)
    wait_until(socket.exists, 10, f"the adb server {program}")
    return script, server


class Adbd:
    """A genuine adbd in mount and process namespaces of its own, all of whose files but its data are shared."""

    def __init__(
        self,
        world: World,
        port: int,
        size: str = "256m",
        shell: str = "dash",
        shims: dict[str, str] | None = None,
        root: Path | None = None,
        binfmt: str = "",
    ) -> None:
        """`binfmt`: a line for the kernel's binfmt_misc, in a user namespace of the device's own."""
        self.world, self.serial = world, f"127.0.0.1:{port}"
        mount = world.folder / f"root-{port}"
        mount.mkdir()
        self.log = world.folder / f"adbd-{port}.log"
        settings = {
            "root": str(root or world.root),
            "binfmt": binfmt,
            "mount": str(mount),
            "port": port,
            "size": size,
            "shell": shell,
            "shims": shims or {},
            "boot_id": str(uuid.uuid4()),
            "log": str(self.log),
        }
        init = Path(__file__).with_name("device_init.py")
        unshare = ["unshare", *(["-U", "-r"] if binfmt else []), "-m", "-p", "--fork", "--kill-child"]
        self.process = subprocess.Popen(
            [*world.enter, *unshare, sys.executable, "-S", str(init), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != b"{}":
            raise Missing("a device's namespaces cannot be made (see the lines above)")

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def sh(self, command: str) -> str:
        """Run in the device, not through adb."""
        return self.ask("run", command=command)["output"]

    def kill_adbd(self) -> None:
        self.ask("kill_adbd")

    def start_adbd(self) -> None:
        self.ask("start_adbd")

    def reboot(self) -> None:
        self.ask("reboot", boot_id=str(uuid.uuid4()))
        self.start_adbd()

    def connect(self, adb: Path) -> str:
        """Let that adb's server know of it; its serial."""

        def connected() -> bool:
            subprocess.run([adb, "connect", self.serial], capture_output=True, timeout=10)
            state = subprocess.run([adb, "-s", self.serial, "get-state"], capture_output=True, timeout=10)
            return state.stdout.strip() == b"device"

        wait_until(connected, 10, self.serial)
        return self.serial

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def wait_until(condition: Any, limit_s: float, what: str) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {limit_s:g} s")
        time.sleep(0.02)
