"""Silence for converters, which would print progress bars, log lines and deprecations on the user's terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator


class _Nowhere(io.TextIOBase):
    """A stream that drops what is written; never closed, because loggers that are set up in the meantime keep it."""

    def write(self, text: str) -> int:
        return len(text)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Drop standard error, log records and warnings; exceptions still say what went wrong.

    The root logger is restored, because some libraries change its level and handlers when they are imported. Standard
    output is left alone, so that a running display of ours continues.
    """
    root, disabled = logging.getLogger(), logging.root.manager.disable
    level, handlers = root.level, list(root.handlers)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(_Nowhere()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers


@contextlib.contextmanager
def native_output_held() -> Iterator[Callable[[], str]]:
    """Hold back what compiled libraries write to the terminal, not through Python; yield a function that returns it."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    with tempfile.TemporaryFile() as file:

        def held() -> str:
            return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")

        try:
            for descriptor in saved:
                os.dup2(file.fileno(), descriptor)
            yield held
        finally:
            for descriptor, copy in saved.items():
                os.dup2(copy, descriptor)
                os.close(copy)


@contextlib.contextmanager
def stderr_held() -> Iterator[None]:
    """Hold back standard error, of compiled libraries too, and show it only if the block fails.

    ExecuTorch's runtime writes what it thinks of the processor: to the file descriptor, or to Python's `sys.stderr`, which
    a moving display of ours may have taken over.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        original = os.dup(2)
        os.dup2(held.fileno(), 2)
        written = open(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)
        try:
            with contextlib.redirect_stderr(written):
                yield
        except BaseException:
            written.flush()
            held.seek(0)
            os.write(original, held.read())
            raise
        finally:
            written.flush()
            os.dup2(original, 2)
            os.close(original)
