"""Several processes, one run (`accelerate launch -m mobilevd run ...`): all train, the first alone writes and judges."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import PartialState

# The others wait while the first judges or exports a row, which at full size takes hours: no collective may time out.
PATIENCE = timedelta(days=30)


def join_processes() -> PartialState:
    """The state of this process among those of the launcher, or the only one's.

    Its `device` is where this process computes: the GPU of its rank, or the CPU. `is_main_process` is true in exactly one
    process; `main_process_first()` lets that one do first what the others then find done.
    """
    # without a GPU accelerate must be told so, or processes of a launcher do not find each other
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
