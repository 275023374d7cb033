"""Folders that are this user's alone: programs that lie in them are run, so nobody else may put any there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from device_runner.errors import RunnerError

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
REMEDY = "set MOBILEVD_CACHE to a folder of your own"


def check_private(folder: Path) -> None:
    """Raise `RunnerError` if anybody but this user and the superuser could put or exchange files in the folder.

    The folder itself must belong to this user; the folders above it to this user or the superuser, and where others may
    write into one (the system's folder for temporary files), it must be one in which nobody moves what is another's. What
    lies above this user's home is trusted as everything else there is.
    """
    if not hasattr(os, "geteuid"):  # Windows: left to its own rights
        return
    real, home = Path(os.path.realpath(folder)), Path(os.path.realpath(Path.home()))
    for place in (real, *real.parents):
        if place != real and place in home.parents and home in real.parents:
            break
        status = place.stat()
        trusted = (os.geteuid(),) if place == real else (os.geteuid(), 0)
        if not stat.S_ISDIR(status.st_mode):
            raise RunnerError(f"{folder}: is no folder; {REMEDY}")
        if status.st_uid not in trusted:
            raise RunnerError(f"{folder}: {place} belongs to another user, who could put programs there; {REMEDY}")
        if status.st_mode & OTHERS_WRITE and (place == real or not status.st_mode & stat.S_ISVTX):
            raise RunnerError(
                f"{folder}: others can write into {place}, and could put programs there; chmod go-w {place}, or {REMEDY}"
            )


def make_private(folder: Path) -> Path:
    """The folder, made for this user alone if it is not there. Raises `RunnerError` as `check_private`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RunnerError(f"{folder}: cannot be written: {error.strerror}; {REMEDY}") from None
    check_private(folder)
    return folder
