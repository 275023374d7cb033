"""Libraries' remarks to their own developers and their progress bars, kept off the user's terminal.

This project warns by none of these ways, so all of them are silenced as a kind, and not one by one as they are met: what
a library has to say differs with its version and the machine. Errors come through, and what changes where a program runs.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings

ENVIRONMENT = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # compiled parts write to the terminal themselves: NNPACK, kineto, distributed
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "PYTHONWARNINGS": "ignore",  # of processes that are started from here
}
"""What libraries read when they are imported, here and in processes that are started from here; what is set stays."""
TOLD = r"(?s).*(CUDA|cuda|NVIDIA|ROCm)"
"""Warnings that are for users: a GPU that is there and cannot be used, for which the work goes on without it."""


def hush() -> None:
    """Call it before they are imported, which is when they make them.

    Who asks for them, by `-W`, PYTHONWARNINGS or TORCH_LOGS, gets them.
    """
    asked = bool(sys.warnoptions)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not asked:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", message=TOLD, category=UserWarning)
    if "TORCH_LOGS" not in os.environ:
        logging.disable(logging.WARNING)
