"""The features of a row's clips, kept in its folder so that rows are compared in pairs: `features.npz`, without pickles."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.interval import RESAMPLES
from eval.row_distances import DISTANCE, KERNEL, RowFeatures
from mobilevd.errors import UserError
from mobilevd.files import atomic_file, sha256_file

FILE = "features.npz"


def write_features(folder: Path, kept: RowFeatures) -> None:
    """Write features (S, n, D) as float32, and the distances of bootstrap samples (R,), to the row's folder."""
    resampled = {f"resampled.{key}": values for key, values in kept.resampled.items()}
    with atomic_file(folder / FILE) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, features=kept.features.astype(np.float32), **resampled)


def read_features(folder: Path) -> RowFeatures:
    """What `write_features` wrote. UserError for a file that is missing, torn, or anything else."""
    file = folder / FILE
    try:
        with np.load(file, allow_pickle=False) as arrays:
            features = arrays["features"]
            resampled = {key: arrays[f"resampled.{key}"] for key in (DISTANCE, KERNEL)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{file}: {error or type(error).__name__}; {_remedy(file)}") from None
    numbers = [features, *resampled.values()]
    whole = features.dtype == np.float32 and features.ndim == 3 and all(features.shape)
    whole &= all(each.dtype == np.float64 and each.shape == (RESAMPLES,) for each in resampled.values())
    if not whole or not all(np.isfinite(each).all() for each in numbers):
        raise UserError(f"{file}: not the features of a row, finite float32 (sets, clips, features); {_remedy(file)}")
    return RowFeatures(features, resampled)


def features_are(folder: Path, recorded: Any) -> bool:
    """True if the row's features are there, and are those of its record; rows of earlier versions have none."""
    file = folder / FILE
    digest = recorded.get(FILE) if isinstance(recorded, Mapping) else None
    return digest is not None and file.is_file() and sha256_file(file) == digest


def _remedy(file: Path) -> str:
    return f"delete {file}, and the command of the run judges the row anew"
