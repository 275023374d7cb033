"""Ctrl-C, or a scheduler's notice, between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether the user has asked to stop."""

    requested = False


SIGNALS = (signal.SIGINT, signal.SIGTERM)  # schedulers and launchers send SIGTERM some time before they kill


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """The first signal only sets `requested`, for the loop to finish its step and save; a second one stops at once."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # only the main thread may handle signals
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
