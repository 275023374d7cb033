"""The work of the command `mobilevd build-runner`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from device_runner.building.android import build_android
from device_runner.building.cache import cache_folder
from device_runner.building.glibc import build_glibc
from device_runner.building.host import build_host_runner
from device_runner.building.layout import ANDROID_ABIS, Built, describe_folder
from device_runner.building.toolchain import compile_command, find_toolchain
from device_runner.errors import RunnerError

HOST = "host"
NDK_VARIABLES = ("ANDROID_NDK", "ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")


def build_runner_command(
    abi: str = HOST,
    *,
    executorch: Path | str | None = None,
    ndk: Path | str | None = None,
    glibc: bool = False,
    wheel: Path | str | None = None,
    vulkan: bool = False,
    cache_dir: Path | str | None = None,
    dry_run: bool = False,
) -> Built:
    """Build a runner into the cache, where benchmarks find it; prints nothing.

    Args:
        abi: `host` for this machine, else Android's name of a processor.
        executorch: checkout of ExecuTorch, for Android.
        ndk: folder of the NDK, for Android; None takes the first of `NDK_VARIABLES` that is set.
        glibc: build with the libraries of a wheel and a bundled C library, instead of a build for Android.
        wheel: ExecuTorch wheel for the processor, with `glibc`; None takes the installed one, or pip downloads it.
        vulkan: build the Vulkan backend too, for Android.
        dry_run: only return what would be done.

    Raises `RunnerError` for options that do not go together, and where the build itself raises it.
    """
    for option, value, needed in (
        ("--executorch", executorch, not glibc),
        ("--ndk", ndk, not glibc),
        ("--wheel", wheel, glibc),
    ):
        if value is not None and (abi == HOST or not needed):
            raise RunnerError(
                f"{option} is not for a runner of this kind ({'host' if abi == HOST else 'glibc' if glibc else 'Android'})"
            )
    if vulkan and (glibc or abi == HOST):
        raise RunnerError("--vulkan is for a runner built for Android only")
    if abi == HOST:
        if glibc:
            raise RunnerError("--glibc needs the processor that it is for: --abi x86_64 or --abi arm64-v8a")
        return _build_host(cache_dir, dry_run)
    if glibc:
        return build_glibc(abi, wheel, cache_dir=cache_dir, dry_run=dry_run)
    if abi not in ANDROID_ABIS:
        raise RunnerError(f"unknown abi {abi!r}; known: {', '.join(ANDROID_ABIS)}, and {HOST} for this machine")
    ndk = ndk or next((os.environ[name] for name in NDK_VARIABLES if os.environ.get(name)), None)
    if executorch is None or ndk is None:
        missing = "--executorch DIR (a checkout of ExecuTorch)" if executorch is None else "--ndk DIR (or $ANDROID_NDK)"
        raise RunnerError(f"a runner for Android on {abi} needs {missing}; without one there is --glibc, experimental")
    return build_android(abi, executorch, ndk, vulkan=vulkan, cache_dir=cache_dir, dry_run=dry_run)


def describe_built(built: Built) -> list[str]:
    """Lines for the user: what was or would be done, where the result lies, and the notes on it."""
    lines = [shlex.join(command) for command in built.commands] if built.dry_run else []
    if built.dry_run:
        lines.append(f"would make {built.folder}")
    else:
        found = "was there already" if built.from_cache else "built"
        lines.append(f"{built.folder}: {found}, {len(built.files)} files, {built.size_bytes / 1e6:.1f} MB")
    return lines + [f"note: {note}" for note in built.notes]


def _build_host(cache_dir: Path | str | None, dry_run: bool) -> Built:
    toolchain = find_toolchain()
    folder = cache_folder(cache_dir) / f"runner-{toolchain.key}"
    command = tuple(compile_command(toolchain, folder / "runner", f"{toolchain.executorch_folder}/lib"))
    if dry_run:
        return Built(folder, (command,), dry_run=True)
    there = folder.is_dir()
    build_host_runner(cache_dir)
    return Built(folder, (command,), *describe_folder(folder), from_cache=there)
