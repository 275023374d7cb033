"""The adb program that drives devices: its place, its version, and that version's known faults."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from device_runner.errors import RunnerError

TRUSTED_RELEASE = 30
"""First release whose exit codes can be trusted: older ones end `adb shell` with exit code 0 when the link drops
(measured with 29.0.6; 36.0.0 returns 255)."""


@dataclass(frozen=True)
class AdbProgram:
    """An adb program and its version."""

    path: str
    source: str
    """Source of the path: `--adb`, `$ADB`, `PATH`, `SDK` or `adbutils`."""
    version: str
    release: tuple[int, ...]
    """Version as numbers, such as (36, 0, 0); (0,) for a program that reports only its protocol's version."""

    @property
    def warning(self) -> str | None:
        """A caution about this version; None if there is none."""
        if self.release >= (TRUSTED_RELEASE,):
            return None
        return (
            f"{self.path} is adb {self.version}; before release {TRUSTED_RELEASE} it reports success for a command whose "
            f"link dropped. Results are checked all the same, but a newer one (pip install adbutils) is faster and safer"
        )

    @property
    def plain_transfer(self) -> tuple[str, ...]:
        """Option that switches compression off, which only costs time: weights do not get smaller."""
        return ("-Z",) if self.release >= (TRUSTED_RELEASE,) else ()


def find_program(option: str | None = None) -> AdbProgram:
    """The first adb program found: `option` (`--adb`), `$ADB`, PATH, the Android SDK, the adbutils wheel.

    Raises `RunnerError` listing the places searched, or naming what `--adb` or `$ADB` wrongly points at.
    """
    for source, given in (("--adb", option), ("$ADB", os.environ.get("ADB"))):
        if given:
            found = shutil.which(os.path.expanduser(given))
            if found is None:
                raise RunnerError(f"{source} is {given!r}, which is no program; it must be the path of adb")
            return _probe(found, source)
    looked = ["--adb", "$ADB", "PATH"]
    if found := shutil.which("adb"):
        return _probe(found, "PATH")
    for source, path in [*_sdk_places(), *_wheel_places()]:
        if source == "adbutils":
            _make_executable(path)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return _probe(str(path), source)
        looked.append(str(path))
    raise RunnerError(
        f"no adb program is found (looked at {', '.join(looked)}); install Android's platform-tools, or: "
        f"pip install adbutils"
    )


def _sdk_places() -> list[tuple[str, Path]]:
    name = "adb.exe" if os.name == "nt" else "adb"
    homes = [Path(value) for key in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if (value := os.environ.get(key))]
    if sys.platform == "darwin":
        homes.append(Path.home() / "Library/Android/sdk")
    elif os.name == "nt":
        homes.append(Path(os.environ.get("LOCALAPPDATA", "")) / "Android" / "Sdk")
    else:
        homes += [Path.home() / "Android/Sdk", Path("/usr/lib/android-sdk"), Path("/opt/android-sdk")]
    return [("SDK", home / "platform-tools" / name) for home in homes]


def _wheel_places() -> list[tuple[str, Path]]:
    # The path is found without importing: the package opens sockets and loads much more than a path.
    spec = importlib.util.find_spec("adbutils")
    name = "adb.exe" if os.name == "nt" else "adb"
    return [("adbutils", Path(place) / "binaries" / name) for place in (spec and spec.submodule_search_locations) or []]


def _make_executable(path: Path) -> None:
    """Make a file executable: some installers drop the mode of files in wheels."""
    if path.is_file() and not os.access(path, os.X_OK):
        try:
            path.chmod(path.stat().st_mode | 0o111)
        except OSError:
            pass  # a read-only installation: reported as not found, with its path


def _probe(path: str, source: str) -> AdbProgram:
    try:
        told = subprocess.run(
            [path, "version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunnerError(f"the adb program {path} (from {source}) cannot be run: {error}") from None
    protocol = re.search(r"Android Debug Bridge version (\S+)", told.stdout)
    if told.returncode or protocol is None:
        raise RunnerError(f"{path} (from {source}) is not adb: `{path} version` says {told.stdout.strip()[:80]!r}")
    release = re.search(r"^(?:Version|Revision) ((\d+)(?:\.(\d+))?(?:\.(\d+))?\S*)", told.stdout, re.MULTILINE)
    if release is None:
        return AdbProgram(path, source, protocol[1], (0,))
    return AdbProgram(path, source, release[1], tuple(int(part) for part in release.groups()[1:] if part))
