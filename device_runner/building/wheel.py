"""Unpacks headers and libraries of an ExecuTorch wheel for a processor other than this machine's."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import stat
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from device_runner.building.cache import make_folder
from device_runner.building.layout import GLIBC_ABIS
from device_runner.building.toolchain import check_executorch, run_logged
from device_runner.errors import RunnerError

PARTS = ("executorch/include/", "executorch/lib/")
WHEELS = "wheels"
"""Name of the cache's folder of wheels that were downloaded."""
MAX_BYTES = 4 << 30
"""Limit of the unpacked size; ExecuTorch's headers and libraries take a hundredth of it."""
DOWNLOAD_TIMEOUT_S = 1800


def download_command(version: str, abi: str, folder: Path) -> list[str]:
    """The pip command that downloads the wheel of a version for a processor into a folder."""
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        f"{sys.version_info.major}.{sys.version_info.minor}",
    ]
    platform = ["--platform", f"manylinux_2_28_{GLIBC_ABIS[abi].machine}"]
    return [*_pip(), "download", *options, *platform, "--dest", str(folder), f"executorch=={version}"]


def _pip() -> list[str]:
    """The command of this Python's pip, else of one on PATH: some virtual environments have no pip of their own."""
    # Not find_spec("pip"): setuptools watches for it, withdraws its distutils, and can be imported no more after that
    # (Python 3.11; torch.compile imports it).
    with contextlib.suppress(PackageNotFoundError):
        distribution("pip")
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if (path := shutil.which(name)) is not None:
            return [path]
    raise RunnerError("there is no pip to download the ExecuTorch wheel with; give the wheel with --wheel FILE")


def download_wheel(version: str, abi: str, cache: Path) -> Path:
    """The wheel, downloaded into the cache unless it is there.

    Raises `RunnerError` with pip's first error; the user can then give the wheel as a file.
    """
    folder = cache / WHEELS
    pattern = f"executorch-{version}-*{GLIBC_ABIS[abi].machine}.whl"
    if not (found := sorted(folder.glob(pattern))):
        folder.mkdir(parents=True, exist_ok=True)
        failure = f"the ExecuTorch wheel for {abi} could not be downloaded (give one with --wheel FILE)"
        run_logged(download_command(version, abi, folder), cache / "download.log", failure, DOWNLOAD_TIMEOUT_S)
        found = sorted(folder.glob(pattern))
    if not found:
        raise RunnerError(f"{folder}: pip put no file {pattern} there; give the wheel with --wheel FILE")
    return found[-1]


def wheel_version(wheel: Path, abi: str) -> str:
    """The version in a wheel's name; raises `RunnerError` if it is not ExecuTorch's, or not for that processor."""
    match = re.fullmatch(r"executorch-([0-9][0-9A-Za-z.+_!]*)-[^-]+-[^-]+-([^-]+)\.whl", wheel.name)
    if match is None:
        raise RunnerError(f"{wheel}: not an ExecuTorch wheel, whose name is executorch-VERSION-...-PLATFORM.whl")
    machine = GLIBC_ABIS[abi].machine
    if not match[2].endswith(f"_{machine}") or "linux" not in match[2]:
        raise RunnerError(f"{wheel}: a wheel for {match[2]}; {abi} needs one for Linux on {machine}")
    return match[1]


def unpacked_wheel(wheel: Path, cache: Path) -> Path:
    """The folder `executorch` of a wheel with its headers and libraries, unpacked into the cache once.

    Raises `RunnerError`: not a wheel, an entry that is a link or would leave the folder, or a wheel without the files
    that the runner needs.
    """
    try:
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunnerError(f"{wheel}: cannot be read: {error.strerror}") from None
    folder = make_folder(
        cache / f"wheel-{digest[:16]}",
        {"wheel": wheel.name, "sha256": digest},
        lambda temporary: unpack(wheel, temporary),
    )
    check_executorch(folder / "executorch")
    return folder / "executorch"


def unpack(wheel: Path, folder: Path) -> None:
    """Unpack the `PARTS` of a wheel; writes nothing if the checks refuse any entry."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                _check_entry(wheel, entry)
            wanted = [entry for entry in archive.infolist() if entry.filename.startswith(PARTS) and not entry.is_dir()]
            if sum(entry.file_size for entry in wanted) > MAX_BYTES:
                raise RunnerError(f"{wheel}: unpacks to more than {MAX_BYTES >> 30} GiB; not an ExecuTorch wheel")
            for entry in wanted:
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise RunnerError(f"{wheel}: not an intact wheel: {error}") from None
    except FileExistsError as error:
        raise RunnerError(f"{wheel}: holds {error.filename} twice") from None


def _check_entry(wheel: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name:
        raise RunnerError(f"{wheel}: its entry {name!r} would be unpacked outside the folder")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise RunnerError(f"{wheel}: its entry {name!r} is a link; wheels hold none")
