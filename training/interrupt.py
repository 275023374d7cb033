"""Interruption of training by Ctrl-C or a scheduler's signal, between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """The state of an interruption: `requested` once the user has asked to stop."""

    requested = False


SIGNALS = (signal.SIGINT, signal.SIGTERM)  # schedulers and launchers send SIGTERM some time before they kill


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Let the first signal only set `requested`, so that the loop ends its step and saves; another stops at once."""
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
