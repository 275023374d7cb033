"""The lock of a folder that one process at a time may write into for long: a run, a training.

The system lets go of it when the process ends, however it ends, so nothing stays locked after a crash.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mobilevd.errors import UserError

FILE = ".lock"


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is not there.

    Raises UserError, naming the process that holds it and since when; or that the folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # Windows: left to its user
        yield
        return
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # not through a link that someone placed there: what it points to would be overwritten
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; name another folder") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise UserError(f"{path}: is no lock file of a run; remove it, or give another folder")
    with open(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: {_holder(file.read())}; wait until it is done, end it, or give another folder"
            ) from None
        except OSError:  # a file system without locks
            yield
            return
        file.truncate(0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}) + "\n")
        file.flush()
        yield


def _holder(note: str) -> str:
    try:
        told = json.loads(note)
        return f"process {told['process']} on {told['host']} has been writing into it since {told['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process is writing into it"
