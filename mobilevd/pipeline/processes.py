"""One run in several processes (`accelerate launch -m mobilevd run ...`): all train and judge, the first does the rest."""

from __future__ import annotations

import atexit

import torch
from accelerate import PartialState

from mobilevd.patience import PATIENCE


def join_processes() -> PartialState:
    """The state of this process among those of the launcher, or of the only process.

    Its `device` is where this process computes: the GPU of its rank, or the CPU. `is_main_process` is true in exactly
    one process; `main_process_first()` lets that process go first, so that the others find the work done.
    """
    atexit.register(_leave)
    # without a GPU accelerate must be told so, or processes of a launcher do not find each other
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def _leave() -> None:
    """End the exchange between processes before the interpreter ends, which its threads would not survive."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
