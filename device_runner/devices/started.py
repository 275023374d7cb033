"""Processes that never outlive the block they are started for, wherever Ctrl-C strikes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from device_runner.errors import RunnerError

INTERRUPTS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP


@contextmanager
def started(
    what: str,
    command: Sequence[str],
    *,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    with_children: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` while the block lasts: what still runs at its end is killed, `with_children` with its process group.

    It reads nothing and has a session of its own: a terminal's Ctrl-C is for this program, which then stops what it has
    started. Raises `RunnerError`, which calls the program `what`, where it cannot be started.
    """
    process = None
    try:
        # An interrupt while Popen waits for its child would leave a running process that nobody knows of.
        with _interrupts_held():
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    env=env,
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise RunnerError(f"{what} {command[0]} cannot be started: {error.strerror}") from None
        yield process
    finally:
        if process is not None and process.poll() is None:
            if with_children:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
        if process is not None and process.stdout is not None:
            process.stdout.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Interrupts that this program answers in Python come when the block has ended; the started process inherits
    nothing, as it would a mask of signals. Other threads than the main one are never interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    handlers = {number: signal.getsignal(number) for number in INTERRUPTS}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in handlers:
            signal.signal(number, lambda number, frame: held.append((number, frame)))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number, frame in held:
        handler = handlers[number]
        assert callable(handler)
        handler(number, frame)
