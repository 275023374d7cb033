"""How far an exported program is from the model: figures, and the run of the program on this host."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

MAX_DB = 999.0  # stands for infinity (equal in every value), which JSON does not have
GATES_DB = {"fp32": 100.0}
"""Least PSNR of a program against eager fp32, by precision: rounding alone leaves 105 to 135 dB in fp32."""


@dataclass(frozen=True)
class Parity:
    """An output against its reference. Decibels are capped at `MAX_DB`."""

    psnr_db: float
    snr_db: float
    max_abs_error: float


def compare(output: Tensor, reference: Tensor) -> Parity:
    """All three figures of one output."""
    return Parity(psnr_db(output, reference), snr_db(output, reference), max_abs_error(output, reference))


def psnr_db(output: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio, 10 log10(peak^2 / mean squared error), peak = max - min of the reference."""
    return _decibels(float(reference.double().max() - reference.double().min()) ** 2, output, reference)


def snr_db(output: Tensor, reference: Tensor) -> float:
    """Signal-to-noise ratio, 10 log10(mean square of the reference / mean squared error)."""
    return _decibels(float(reference.double().square().mean()), output, reference)


def max_abs_error(output: Tensor, reference: Tensor) -> float:
    """Largest difference; infinite if the output is not finite."""
    error = (output.double() - reference.double()).abs().max()
    return float(error) if torch.isfinite(error) else math.inf


def _decibels(power: float, output: Tensor, reference: Tensor) -> float:
    if output.shape != reference.shape:
        raise ValueError(f"the output has shape {tuple(output.shape)}, its reference {tuple(reference.shape)}")
    error = float((output.double() - reference.double()).square().mean())
    if not math.isfinite(error):
        return -MAX_DB
    if error == 0:
        return MAX_DB
    return max(-MAX_DB, min(MAX_DB, 10 * math.log10(power / error))) if power > 0 else -MAX_DB


def run_program(path: Path, inputs: Sequence[Tensor], method: str = "forward") -> list[Tensor]:
    """Run a .pte file on this host with ExecuTorch's runtime; the outputs are copies."""
    from executorch.runtime import Runtime

    with _stderr_kept_back():
        # the program keeps the file mapped: it must be gone before the file may be replaced
        program = Runtime.get().load_program(path)
        loaded = program.load_method(method)
        assert loaded is not None
        return [output.clone() for output in loaded.execute(list(inputs))]


@contextmanager
def _stderr_kept_back() -> Iterator[None]:
    """ExecuTorch's native code reports what it knows of the processor on stderr; show it only if something fails."""
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
