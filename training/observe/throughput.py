"""The rates of a training: clips and steps per second, achieved TFLOP/s, MFU, and the time that is left.

MFU (model FLOPs utilization, as in the PaLM report, arXiv 2204.02311, appendix B) is the FLOPs that the model needs per
step, whatever is computed twice to save memory, over what the GPU could do in that time at its peak.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from mobilevd.gpus import gpu_of

HALF_LIFE_S = 120.0
"""Seconds after which an interval counts half: slow changes show within minutes, single slow steps do not."""


@dataclass(frozen=True)
class Rates:
    """The rates at a step; the units are those of `training.observe.report.Report`."""

    clips_per_s: float
    seconds_per_step: float
    seconds_left: float
    tflops: float | None
    mfu: float | None


class Meter:
    """Measures the rates of a training, smoothed, with validations and checkpoints apart.

    Args:
        step, steps: the step that the training starts after, and its last.
        clips_per_step: the global batch.
        flops_per_step: FLOPs of one step in one process (`training.observe.step_flops`); None: not counted.
        peak_tflops: peak of the process's GPU; None: not known.
        clock: time in seconds.
    """

    def __init__(
        self,
        step: int,
        steps: int,
        clips_per_step: int,
        flops_per_step: float | None = None,
        peak_tflops: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._steps, self._clips, self._flops, self._peak = steps, clips_per_step, flops_per_step, peak_tflops
        self._clock, self._last_step, self._last_time = clock, step, clock()
        self._begun, self._paused, self._paused_before = self._last_time, 0.0, 0.0
        self._time, self._count = 0.0, 0.0  # decayed sums of seconds and of steps

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here is no training: validations and checkpoints. Only the time that is left counts its share."""
        started = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - started

    def read(self, step: int) -> Rates:
        """The rates after a step, later than the one of the call before."""
        now = self._clock()
        seconds = max(1e-9, now - self._last_time - (self._paused - self._paused_before))
        decay = 0.5 ** (seconds / HALF_LIFE_S)
        self._time = self._time * decay + seconds
        self._count = self._count * decay + (step - self._last_step)
        self._last_step, self._last_time, self._paused_before = step, now, self._paused
        per_step = self._time / self._count if self._count else seconds
        active = max(1e-9, now - self._begun - self._paused)
        left = (self._steps - step) * per_step * (1 + self._paused / active)
        tflops = None if self._flops is None else self._flops / per_step / 1e12
        mfu = None if tflops is None or not self._peak else tflops / self._peak
        return Rates(self._clips / per_step, per_step, left, tflops, mfu)


def peak_tflops(device: torch.device, mixed_precision: str, tf32: bool = True) -> float | None:
    """Peak TFLOP/s of a device for a training's precision; None on a CPU, or a GPU that `mobilevd.gpus` does not know."""
    if device.type != "cuda":
        return None
    gpu = gpu_of(torch.cuda.get_device_name(device))
    return None if gpu is None else gpu.tflops(mixed_precision, tf32)
