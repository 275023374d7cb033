"""Checks a device's outputs against the bundle's references: the time of a wrong answer is no measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_runner.bundle.read import BundleProgram, BundleTensor
from device_runner.errors import RunnerError
from device_runner.runners.base import OutputFile

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class OutputCheck:
    """One output against its reference."""

    name: str
    psnr_db: float | None
    """PSNR in dB; None if all values are equal, so that there is no error to take a logarithm of."""
    min_psnr_db: float
    max_abs_error: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def psnr_db(values: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(peak^2 / mean squared error); infinite for equal arrays.

    The peak is the reference's range, max - min; for a constant reference its magnitude.
    """
    import numpy as np

    values, reference = values.astype(np.float64), reference.astype(np.float64)
    mse = float(np.mean((values - reference) ** 2))
    if mse == 0:
        return math.inf
    peak = float(reference.max() - reference.min()) or float(np.abs(reference).max())
    return 10 * math.log10(peak**2 / mse) if peak > 0 else -math.inf


def check_outputs(
    device: str, outputs: Sequence[OutputFile], program: BundleProgram, folder: Path
) -> list[OutputCheck]:
    """Check that every output has the dtype, shape and size of its reference, is finite, and is close enough to it.

    Args:
        device: name for errors.
        folder: folder in which the outputs must lie.

    Raises `RunnerError` naming the first output that fails.
    """
    if len(outputs) != len(program.outputs):
        raise RunnerError(f"{device}: the runner left {len(outputs)} outputs, the program has {len(program.outputs)}")
    pairs = zip(outputs, program.outputs, strict=True)
    return [_check_output(f"{device}: output {tensor.name!r}", file, tensor, folder) for file, tensor in pairs]


def _check_output(what: str, output: OutputFile, tensor: BundleTensor, folder: Path) -> OutputCheck:
    import numpy as np

    for kind, got, expected in (("dtype", output.dtype, tensor.dtype), ("shape", output.shape, tensor.shape)):
        if got is not None and got != expected:
            raise RunnerError(f"{what} has {kind} {_text(got)}, the bundle says {_text(expected)}")
    path = output.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RunnerError(f"{what}: the runner names a file outside its output folder: {path.name!r}")
    size = path.stat().st_size if path.is_file() else None
    if size != tensor.size_bytes:
        found = "is missing" if size is None else f"has {size} bytes"
        raise RunnerError(f"{what}: its file {path.name} {found}, {tensor.size_bytes} bytes are expected")
    dtype = np.dtype(tensor.dtype).newbyteorder("<")
    values, reference = np.fromfile(path, dtype), np.fromfile(tensor.file, dtype)
    for name, array in (("the reference", reference), ("the device's result", values)):
        if not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise RunnerError(f"{what}: {name} has {count} values that are not finite")
    psnr = psnr_db(values, reference)
    least = tensor.min_psnr_db if tensor.min_psnr_db is not None else math.inf
    if psnr < least:
        raise RunnerError(f"{what} is not the bundle's reference: PSNR {psnr:.1f} dB, {least:g} dB is needed")
    error = float(np.abs(values.astype(np.float64) - reference.astype(np.float64)).max())
    return OutputCheck(tensor.name, None if math.isinf(psnr) else psnr, least, error)


def _text(value: str | tuple[int, ...]) -> str:
    return value if isinstance(value, str) else str(list(value))
