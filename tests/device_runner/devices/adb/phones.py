"""Plays a phone: its recorded outputs behind a real POSIX shell, with stand-ins for `getprop`, `dumpsys` and the rest."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

RECORDED = Path(__file__).parent / "phones"
COMMANDS = {
    "getprop": "cat {outputs}/getprop",
    "dumpsys": 'cat {outputs}/"dumpsys $1"',
    "settings": "cat {outputs}/settings",
    "uname": 'case "$1" in -m) head -n 1 {outputs}/uname ;; *) tail -n +2 {outputs}/uname ;; esac',
}


def names() -> list[str]:
    return sorted(path.stem for path in RECORDED.glob("*.txt"))


def shells() -> list[list[str]]:
    """The shells of this machine that a device may have."""
    found = [["dash"], ["busybox", "sh"], ["mksh"], ["bash", "--posix"]]
    return [command for command in found if shutil.which(command[0])] or [["sh"]]


def play(name: str, folder: Path, shell: list[str] | None = None) -> Callable[[str], str]:
    """A function that runs a command string as the recorded phone would."""
    outputs, root, programs = folder / "outputs", folder / "root", folder / "bin"
    for path in (outputs, root, programs):
        path.mkdir(parents=True, exist_ok=True)
    for heading, text in _blocks((RECORDED / f"{name}.txt").read_text()):
        if heading.startswith("file "):
            _write(root / heading.removeprefix("file /"), text)
        elif heading.startswith("cores "):
            _write_cores(root / "sys/devices/system/cpu", text)
        else:
            _write(outputs / heading, text)
    for command, body in COMMANDS.items():
        _write(programs / command, "#!/bin/sh\n" + body.format(outputs=f"'{outputs}'"))
        (programs / command).chmod(0o755)

    def run(command: str) -> str:
        # A path is the device's if it begins a word: /proc/uptime, not $x/proc.
        moved = re.sub(r"(?<![\w$}/*\]])/(proc|sys|etc)/(?!\$\$)", lambda match: f"{root}/{match[1]}/", command)
        environment = {"PATH": f"{programs}:/usr/bin:/bin"}
        result = subprocess.run(
            [*(shell or ["sh"]), "-c", moved], capture_output=True, text=True, env=environment, timeout=20
        )
        assert result.stderr == "", result.stderr
        return result.stdout.replace("\n", "\r\n") if name == "nexus5x" else result.stdout

    return run


def _blocks(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"(?m)^@(.*)\n", text)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _write_cores(folder: Path, table: str) -> None:
    for line in table.splitlines():
        core, governor, now, allowed, highest = line.split()
        (folder / f"cpu{core}").mkdir(parents=True)
        if governor != "-":  # a core that is offline has no cpufreq folder
            _write(folder / f"cpu{core}/cpufreq/scaling_governor", governor + "\n")
            _write(folder / f"cpu{core}/cpufreq/scaling_cur_freq", now + "\n")
            _write(folder / f"cpu{core}/cpufreq/scaling_max_freq", allowed + "\n")
            _write(folder / f"cpu{core}/cpufreq/cpuinfo_max_freq", highest + "\n")
