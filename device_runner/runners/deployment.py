"""The forms in which our runner gets onto a device: the files it needs there and the command that starts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from device_runner.building.android import find_android_runner
from device_runner.building.cache import RECORD, read_record
from device_runner.building.glibc import build_glibc, find_glibc_runner
from device_runner.building.host import build_host_runner
from device_runner.building.layout import GLIBC_ABIS, PROGRAM, builds_natively
from device_runner.devices.job import FILES, Platform
from device_runner.errors import RunnerError
from device_runner.runners.base import RUNNER

GLIBC = "glibc"
NDK = "ndk"
HOST = "host"
CHOICES = (HOST, NDK, GLIBC)


@dataclass(frozen=True)
class Deployment:
    """A built runner, ready to be put onto a device."""

    command: tuple[str, ...]
    """Command that starts the runner; `job.FILES` in it stands for the folder on the device."""
    form: str | None = None
    """One of `CHOICES`; None if there is no choice."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Name under the runner's folder on the device -> file on this machine."""
    executables: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    backends: frozenset[str] = frozenset({"xnnpack"})
    """Backends compiled into the runner."""
    versions: Mapping[str, str] = field(default_factory=dict)


def deployment_for(platform: Platform, choice: str | None = None, cache_dir: Path | str | None = None) -> Deployment:
    """The runner for a platform, built now if that takes seconds, else taken from the cache.

    Args:
        choice: `host` (this machine's, started where it lies), `ndk` (built for Android) or `glibc` (with a bundled C
            library; on Android experimental); None: `ndk` on Android, `glibc` on another Linux, else `host`.

    Raises `RunnerError` naming the command that builds the runner, if it has not been built.
    """
    if choice is not None and choice not in CHOICES:
        raise RunnerError(f"unknown kind of runner {choice!r}; known: {', '.join(CHOICES)}")
    if choice is None:
        choice = {"android": NDK, "linux": GLIBC}.get(platform.system, HOST)
    if choice == HOST:
        return host_deployment(cache_dir=cache_dir)
    systems = ("android",) if choice == NDK else ("android", "linux")
    if platform.system not in systems:
        raise RunnerError(
            f"a runner of the kind {choice} does not run on {platform.system}, only on {' and '.join(systems)}"
        )
    if choice == NDK:
        return ndk_deployment(platform.abi, cache_dir)
    return glibc_deployment(platform.abi, cache_dir)


def host_deployment(runner: Path | str | None = None, cache_dir: Path | str | None = None) -> Deployment:
    """This machine's runner, built on first use (or the program `runner` instead), started where it lies."""
    path = Path(runner).absolute() if runner is not None else build_host_runner(cache_dir)
    return Deployment(command=(str(path),), form=HOST, versions=_versions(path.parent))


def ndk_deployment(abi: str, cache_dir: Path | str | None) -> Deployment:
    folder = find_android_runner(abi, cache_dir)
    if folder is None:
        raise RunnerError(
            f"no runner for Android on {abi} has been built: mobilevd build-runner --abi {abi} --executorch DIR --ndk "
            f"DIR (or, experimental, with neither: mobilevd build-runner --abi {abi} --glibc, then --runner glibc)"
        )
    return Deployment(
        command=(f"{FILES}/{RUNNER}/{PROGRAM}",),
        form=NDK,
        files={PROGRAM: folder / PROGRAM},
        executables=frozenset({PROGRAM}),
        backends=frozenset(read_record(folder).get("backends", ("xnnpack",))),
        versions=_versions(folder),
    )


def glibc_deployment(abi: str, cache_dir: Path | str | None = None) -> Deployment:
    """The runner with the wheel's libraries and a bundled C library: needs nothing of the device but its kernel."""
    if abi not in GLIBC_ABIS:
        raise RunnerError(f"there is no glibc runner for {abi}; there is one for: {', '.join(GLIBC_ABIS)}")
    folder = build_glibc(abi, cache_dir=cache_dir).folder if builds_natively(abi) else find_glibc_runner(abi, cache_dir)
    if folder is None:
        raise RunnerError(
            f"no glibc runner for {abi} has been built: mobilevd build-runner --abi {abi} --glibc [--wheel FILE]"
        )
    place, loader = f"{FILES}/{RUNNER}", GLIBC_ABIS[abi].loader
    return Deployment(
        command=(f"{place}/{loader}", "--library-path", place, f"{place}/{PROGRAM}"),
        form=GLIBC,
        files={path.name: path for path in sorted(folder.iterdir()) if path.name != RECORD},
        executables=frozenset({PROGRAM, loader}),
        versions=_versions(folder),
    )


def _versions(folder: Path) -> dict[str, str]:
    record = read_record(folder)
    named = {"executorch": "executorch", "compiler_version": "compiler", "ndk": "ndk", "libc": "libc"}
    versions = {name: str(record[key]) for key, name in named.items() if record.get(key)}
    if "source_sha256" in record:
        versions["runner_source_sha256"] = str(record["source_sha256"])
    return versions
