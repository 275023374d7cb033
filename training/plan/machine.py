"""The machine that a training is planned for: the one that the configuration names, or this one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mobilevd.config.training import HardwareSettings
from mobilevd.errors import UserError
from mobilevd.gpus import Gpu, gpu_named, gpu_of

GIB = 2**30
USABLE = 0.985
"""Share of a GPU's nominal memory that programs can have: an H100 of 80 GB shows 79.1 GiB, an RTX 4090 of 24 GB 23.6."""
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """Processes with memory of their own.

    Attributes:
        name: as it is shown.
        gpu: true for GPUs, one a process; false for a processor.
        processes: their number.
        memory_bytes: memory of each.
        kind: the GPU's data sheet; None if it is not known.
        tflops: peak TFLOP/s of each that the configuration gives; None: the data sheet's.
    """

    name: str
    gpu: bool
    processes: int
    memory_bytes: int
    kind: Gpu | None = None
    tflops: float | None = None

    def check_parallel(self, parallel: str) -> None:
        """Raise UserError for FSDP without GPUs."""
        if parallel == "fsdp" and not self.gpu:
            raise UserError("training.parallel=fsdp: there is no GPU to shard over; use ddp")

    def peak_tflops(self, mixed_precision: str, tf32: bool) -> float | None:
        """Peak of one process in TFLOP/s in this precision; None if it is not known."""
        if self.tflops is not None:
            return self.tflops
        return self.kind.tflops(mixed_precision, tf32) if self.kind is not None else None


def machine_of(hardware: HardwareSettings, processes: int = 1) -> Machine:
    """The machine that `hardware` names; what it leaves open is this machine's, with the launcher's `processes`.

    Raises UserError for a GPU that is not known.
    """
    count = hardware.gpus or processes
    memory = int(hardware.memory_gb * GIB) if hardware.memory_gb is not None else None
    if hardware.gpu is not None:
        kind = gpu_named(hardware.gpu)
        return Machine(kind.name, True, count, memory or int(kind.memory_gb * USABLE * GIB), kind, hardware.tflops)
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        kind = gpu_of(properties.name)
        return Machine(
            properties.name, True, hardware.gpus or processes, memory or properties.total_memory, kind, hardware.tflops
        )
    if hardware.gpus is not None or hardware.memory_gb is not None:
        if memory is None:
            raise UserError("hardware.gpus: of which kind? Give hardware.gpu or hardware.memory_gb, too")
        return Machine("GPU", True, count, memory, None, hardware.tflops)
    return Machine("processor", False, count, processor_memory() // count, None, hardware.tflops)


def processor_memory() -> int:
    """Bytes of memory that this process and its like may have: the machine's, or the limit of their container."""
    import psutil

    total = psutil.virtual_memory().total
    for place in _LIMITS:
        try:
            text = Path(place).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def launched_processes() -> int:
    """Number of processes that a launcher (torchrun, accelerate) started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))
