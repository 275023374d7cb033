"""Running a .pte file on this host with ExecuTorch's own runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from export.quiet import stderr_held


def run_pte(path: Path, inputs: Sequence[Tensor], threads: int | None = None, method: str = "forward") -> list[Tensor]:
    """Run a method of a program; the outputs are copies. `threads` None leaves the runtime's default."""
    from executorch.runtime import Runtime

    with stderr_held():
        if threads is not None:
            from executorch.extension.pybindings import portable_lib

            portable_lib._unsafe_reset_threadpool(threads)
        # the program keeps the file mapped: it must be freed before the file may be replaced
        program = Runtime.get().load_program(path)
        loaded = program.load_method(method)
        assert loaded is not None
        return [output.clone() for output in loaded.execute(list(inputs))]
