"""The machine itself: its description, and its speed at multiplying matrices."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

GEMM_SIZES = (1024, 1536, 2048, 3072)
GEMM_REPEATS = 2


def gemm_gflops() -> float:
    """Best 10^9 operations per second over square float32 products of several sizes, with torch's number of threads."""
    best = 0.0
    for size in GEMM_SIZES:
        a, b = torch.randn(size, size), torch.randn(size, size)
        out = torch.mm(a, b)  # warms up
        for _ in range(GEMM_REPEATS):
            started = time.perf_counter()
            torch.mm(a, b, out=out)
            best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e9)
    return best


def describe() -> dict[str, Any]:
    """The processor's name, its cores, the system, its load just now, and torch's kernels."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "load": list(os.getloadavg()),
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.enabled,
    }


def processor() -> str:
    """The processor's name from /proc/cpuinfo, else what Python's platform module reports."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
