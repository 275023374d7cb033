"""What a row's figures are of: the SHA-256 of weights, features and program, checked before they are believed again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_runner.bundle.manifest import MANIFEST
from device_runner.bundle.read import read_bundle
from device_runner.errors import RunnerError
from mobilevd.errors import UserError
from mobilevd.files import sha256_file
from mobilevd.pipeline.row_features import FILE as FEATURES

REMEDY = "delete {folder} and the stages after it to make them anew, or give output=ANOTHER_FOLDER"


def files_of_row(folder: Path) -> dict[str, str]:
    """Path in the row's folder -> SHA-256: model files, features, and the bundles' manifests, which hold all others."""
    model = sorted(path for path in (folder / "model").glob("*") if path.is_file())
    manifests = sorted(folder.glob(f"bundle*/{MANIFEST}"))
    found = [*model, *(file for file in (folder / FEATURES, *manifests) if file.is_file())]
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in found}


def check_row_files(folder: Path, recorded: Any) -> None:
    """Raise UserError unless the files of a row are those that its figures were taken from."""
    remedy = REMEDY.format(folder=folder)
    if not isinstance(recorded, Mapping):
        raise UserError(f"{folder}: its figures do not tell which files they are of; {remedy}")
    found = files_of_row(folder)
    for name, digest in recorded.items():
        if name == FEATURES and found.get(name) != digest:
            raise UserError(
                f"{folder / name}: is not the file that the figures are of; give the command of the run again, which "
                "judges the row anew"
            )
        if name not in found:
            raise UserError(f"{folder / str(name)}: is not there any more, and its figures are; {remedy}")
        if found[name] != digest:
            raise UserError(f"{folder / name}: is not the file that the figures are of (its SHA-256 differs); {remedy}")
    for name in found:
        if name.endswith(f"/{MANIFEST}"):
            try:
                read_bundle((folder / name).parent)
            except RunnerError as error:
                raise UserError(f"{error}; {remedy}") from None
