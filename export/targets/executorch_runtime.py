"""Running a .pte file on this host with ExecuTorch's own runtime."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor


def run_pte(path: Path, inputs: Sequence[Tensor], threads: int | None = None, method: str = "forward") -> list[Tensor]:
    """Run a method of a program; the outputs are copies. `threads` None leaves the runtime's default."""
    from executorch.runtime import Runtime

    with _stderr_kept_back():
        if threads is not None:
            from executorch.extension.pybindings import portable_lib

            portable_lib._unsafe_reset_threadpool(threads)
        # the program keeps the file mapped: it must be freed before the file may be replaced
        program = Runtime.get().load_program(path)
        loaded = program.load_method(method)
        assert loaded is not None
        return [output.clone() for output in loaded.execute(list(inputs))]


@contextmanager
def _stderr_kept_back() -> Iterator[None]:
    """Hold back ExecuTorch's messages on the processor on stderr; show them only if something fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        original = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(original, kept.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
