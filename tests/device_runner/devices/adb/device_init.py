"""The first process of a device made of namespaces: mounts its root, runs adbd in it, does what its parent asks.

Run as `python device_init.py SETTINGS`, process 1 of fresh mount and process namespaces. Reads JSON lines with a `do` and
answers each with one; ends, and everything in the device with it, when its input does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

BOOT_ID = "proc/sys/kernel/random/boot_id"
BINFMT = Path("/proc/sys/fs/binfmt_misc")


class Device:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.root = Path(settings["mount"])
        self.adbd: int | None = None
        self.environment = {
            "PATH": "/run/shims:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/data",
            "TMPDIR": "/data/local/tmp",
            "ADBD_PORT": str(settings["port"]),
        }

    def mount(self) -> None:
        def mount(*arguments: str, check: bool = True) -> None:
            subprocess.run(["mount", *arguments], check=check, stderr=None if check else subprocess.DEVNULL)

        root = self.root
        if self.settings["binfmt"]:
            mount("-t", "binfmt_misc", "binfmt_misc", str(BINFMT))
            # In one write; it holds in this user namespace alone, and the program is opened now, outside the root.
            (BINFMT / "register").write_bytes(self.settings["binfmt"].encode("latin-1"))
        mount("--bind", self.settings["root"], str(root))
        # Flags that a user namespace has locked may forbid it; nothing here writes there anyway.
        mount("-o", "remount,bind,ro", str(root), check=False)
        mount("-t", "proc", "proc", str(root / "proc"))
        mount("--rbind", "/sys", str(root / "sys"))  # XNNPACK aborts without it
        mount("--rbind", "/dev", str(root / "dev"))
        for name, size in (("data", self.settings["size"]), ("tmp", "16m"), ("run", "16m")):
            mount("-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", str(root / name))
        (root / "data/local/tmp").mkdir(parents=True)
        (root / "run/boot_id").write_text(self.settings["boot_id"] + "\n")
        mount("--bind", str(root / "run/boot_id"), str(root / BOOT_ID))
        shims = root / "run/shims"
        shims.mkdir()
        if self.settings["shell"] == "busybox":
            for applet in self.run("/usr/bin/busybox --list")["output"].split():
                (shims / applet).symlink_to("/usr/bin/busybox")
        if self.settings["shell"] != "dash":
            mount("--bind", str(root / "usr/bin" / self.settings["shell"]), str(root / "usr/bin/dash"))
        for name, text in self.settings["shims"].items():
            (shims / name).unlink(missing_ok=True)
            (shims / name).write_text(text)
            (shims / name).chmod(0o755)

    def spawn(self, *command: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        log = open(self.settings["log"], "ab")  # noqa: SIM115
        return subprocess.Popen(
            ["chroot", str(self.root), *command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout or log,
            stderr=log if stdout is None else subprocess.STDOUT,
            start_new_session=True,
        )

    def start_adbd(self) -> None:
        self.adbd = self.spawn("/usr/lib/android-sdk/platform-tools/adbd").pid

    def kill_adbd(self) -> None:
        if self.adbd is not None:
            os.kill(self.adbd, signal.SIGKILL)
            self.adbd = None

    def reboot(self, boot_id: str) -> None:
        """Everything but this process ends, and the kernel says that it started anew; files stay."""
        os.kill(-1, signal.SIGKILL)
        self.adbd = None
        (self.root / "run/boot_id").write_text(boot_id + "\n")

    def run(self, command: str) -> dict[str, Any]:
        process = self.spawn("/bin/sh", "-c", command, stdout=subprocess.PIPE)
        output, _ = process.communicate()
        return {"code": process.returncode, "output": output.decode(errors="replace")}

    def do(self, request: dict[str, Any]) -> dict[str, Any]:
        result = getattr(self, request.pop("do"))(**request)
        return result or {}


def main() -> None:
    device = Device(json.loads(sys.argv[1]))
    device.mount()
    device.start_adbd()
    print("{}", flush=True)
    pending = b""
    while True:
        if select.select([0], [], [], 0.05)[0]:
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                print(json.dumps(device.do(json.loads(line))), flush=True)
        # As on a phone, orphans are waited for by process 1, else they would seem alive.
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


if __name__ == "__main__":
    main()
