"""Ctrl-C, which a terminal sends to a process and to all that it has started."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def children_deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C: the one that started them hears it, and ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)  # None: not set from Python
