"""Parity: the difference between an exported program and the model in figures, and the thresholds for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_DB = 999.0  # stands for infinity (equal in every value), which JSON does not have


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
