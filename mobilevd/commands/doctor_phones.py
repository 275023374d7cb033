"""What `mobilevd doctor` says of phones: adb, the runners, and what builds them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from device_runner.building.android import check_ndk, find_android_runner
from device_runner.building.command import NDK_VARIABLES
from device_runner.building.glibc import compiler_for, find_glibc_runner
from device_runner.errors import RunnerError
from mobilevd.commands.finding import Finding, looked_for

PHONE_ABI = "arm64-v8a"
NDK_BUILD = "mobilevd build-runner --executorch DIR --ndk DIR"
SUBSTITUTE = "mobilevd build-runner --glibc"
TOOLS = ("cmake", "ninja")
"""Programs of the build with the NDK, and of that alone."""


def phone_findings(find_adb: Callable[[], str]) -> list[Finding]:
    """A finding for each thing that measuring on phones needs; a run on this host needs none of them.

    `find_adb` returns the name of adb, or raises an error with the reason.
    """
    return [
        looked_for("adb", find_adb, "no phones from here; nothing else needs it"),
        looked_for(
            "NDK runner",
            lambda: _built(find_android_runner(PHONE_ABI)),
            f"no ExecuTorch program runs on a phone, but for the experimental runner below; {NDK_BUILD} makes it",
        ),
        looked_for(
            "glibc runner",
            lambda: _built(find_glibc_runner(PHONE_ABI)),
            f"no substitute for the NDK's runner (bench --runner glibc); {SUBSTITUTE} makes it, experimental",
        ),
        looked_for("Android NDK", _find_ndk, f"no runner for phones is built with it; {SUBSTITUTE} does without"),
        looked_for("compiler, arm64", lambda: compiler_for(PHONE_ABI)[0], f"no substitute for the NDK ({SUBSTITUTE})"),
        looked_for(
            "readelf", lambda: _on_path("readelf"), f"no substitute for the NDK ({SUBSTITUTE}); package binutils"
        ),
        *map(_tool_finding, TOOLS),
    ]


def _tool_finding(name: str) -> Finding:
    purpose = f"{NDK_BUILD}, and nothing else, builds with it"
    return looked_for(name, lambda: f"{_on_path(name)}: {purpose}", f"{purpose}; pip install {name}")


def _built(folder: Path | None) -> str:
    """Raise `RunnerError` if there is none; else where it is."""
    if folder is None:
        raise RunnerError(f"none yet for {PHONE_ABI}")
    return f"for {PHONE_ABI}: {folder}"


def _find_ndk() -> str:
    name = next((each for each in NDK_VARIABLES if os.environ.get(each)), None)
    if name is None:
        raise RunnerError(f"not told (${' or $'.join(NDK_VARIABLES)}, or build-runner --ndk DIR)")
    return f"{check_ndk(Path(os.environ[name]))}: {os.environ[name]} (${name})"


def _on_path(name: str) -> str:
    if path := shutil.which(name):
        return path
    raise RunnerError("not on PATH")
