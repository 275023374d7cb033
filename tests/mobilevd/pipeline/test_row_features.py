"""The features kept in a row's folder: what is written is read, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.interval import RESAMPLES
from eval.row_distances import RowFeatures
from mobilevd.errors import UserError
from mobilevd.pipeline.row_features import FILE, features_are, read_features, write_features
from mobilevd.pipeline.row_files import check_row_files, files_of_row


def kept() -> RowFeatures:
    rng = np.random.default_rng(0)
    resampled = {key: rng.normal(size=RESAMPLES) for key in ("distance", "kernel_distance")}
    return RowFeatures(rng.normal(size=(2, 5, 3)).astype(np.float32), resampled)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = kept()
    write_features(tmp_path, written)
    read = read_features(tmp_path)
    np.testing.assert_array_equal(read.features, written.features)
    assert read.features.dtype == np.float32 and read.resampled.keys() == written.resampled.keys()
    for key, values in written.resampled.items():
        np.testing.assert_array_equal(read.resampled[key], values)


@pytest.mark.parametrize("harm", ["objects", "torn", "missing", "nan", "shape", "other"])
def test_anything_else_is_told_with_the_remedy(tmp_path: Path, harm: str) -> None:
    write_features(tmp_path, kept())
    file, good = tmp_path / FILE, kept()
    arrays = {"features": good.features, **{f"resampled.{key}": v for key, v in good.resampled.items()}}
    if harm == "torn":
        file.write_bytes(file.read_bytes()[:200])
    elif harm == "missing":
        file.unlink()
    elif harm == "other":
        np.savez(file, allow_pickle=False, x=np.zeros(3))
    else:
        changed = {
            "objects": np.array([{"a": 1}], dtype=object),
            "nan": np.full((2, 5, 3), np.nan, np.float32),
            "shape": np.zeros((5, 3), np.float32),
        }[harm]
        np.savez(file, **{**arrays, "features": changed})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"features\.npz.*; delete .*features\.npz, and the command of the run judges"):
        read_features(tmp_path)


def test_they_are_hashed_with_the_rows_files(tmp_path: Path) -> None:
    assert files_of_row(tmp_path) == {} and not features_are(tmp_path, {})
    write_features(tmp_path, kept())
    recorded = files_of_row(tmp_path)
    assert set(recorded) == {FILE} and features_are(tmp_path, recorded)
    assert not features_are(tmp_path, {"model/config.json": "0"}), "a row of an earlier version"
    check_row_files(tmp_path, recorded)
    other = kept()
    write_features(tmp_path, RowFeatures(other.features + 1, other.resampled))
    assert not features_are(tmp_path, recorded)
    with pytest.raises(UserError, match=r"features.npz: is not the file that .*; give the command of the run again"):
        check_row_files(tmp_path, recorded)
    (tmp_path / FILE).unlink()
    assert not features_are(tmp_path, recorded)
