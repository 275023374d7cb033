"""Reads a bundle: the folder with programs, manifest and reference tensors, which is all a device needs.

Everything in a bundle is checked: its manifest must have the right form, every file must lie inside the folder and have
the size and SHA-256 that the manifest gives, and every raw tensor file must have the size of its shape and dtype.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

from device_runner.bundle.hashes import CheckedFile, sha256_of, stamp_of
from device_runner.bundle.manifest import (
    DTYPE_BYTES,
    MANIFEST,
    FileEntry,
    Manifest,
    OutputEntry,
    ProgramEntry,
    TensorEntry,
)
from device_runner.bundle.places import check_names, check_nothing_else
from device_runner.errors import RunnerError
from device_runner.json_files import parse_json, read_bytes

MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True)
class BundleTensor:
    """An input or output of a program, with its reference values in a raw file (C order, little-endian)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    min_psnr_db: float | None = None
    """Least PSNR against the reference at which a device's values count; for outputs only."""

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True)
class BundleProgram:
    """A program file and the method of it to run."""

    name: str
    file: Path
    size_bytes: int
    """Size of the file, or of all files in the folder, as the manifest gives it."""
    method: str
    inputs: tuple[BundleTensor, ...]
    outputs: tuple[BundleTensor, ...]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were all checked."""

    folder: Path
    manifest: Manifest
    programs: dict[str, BundleProgram]
    files: dict[str, CheckedFile]
    sha256: str
    """SHA-256 of the manifest, which holds the SHA-256 of all other files."""
    runs_per_clip: dict[str, int] | None = None
    """Programs in order -> their runs per clip, for a bundle of the whole path from a picture to frames."""
    frames_per_clip: int | None = None
    """Number of frames that these runs make."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def target(self) -> str:
        return self.manifest.target

    @property
    def precision(self) -> str:
        return self.manifest.precision

    def program(self, name: str) -> BundleProgram:
        """The program of that name; raises `RunnerError` listing the bundle's programs if there is none."""
        if name not in self.programs:
            raise RunnerError(f"{self.folder}: the bundle has no program {name!r}; it has: {', '.join(self.programs)}")
        return self.programs[name]

    def name_of(self, path: Path) -> str:
        """The manifest's name of a file of the bundle."""
        return path.relative_to(self.folder).as_posix()


def read_bundle(folder: Path | str) -> Bundle:
    """Read and check a bundle; every file is hashed once.

    Raises `RunnerError` naming the file or the manifest's key: unknown schema version, missing or mistyped
    field, path that leaves the folder, missing file, file that is not listed, link inside a program, wrong size, wrong
    SHA-256.
    """
    folder = Path(folder)
    manifest, data = _read_manifest(folder)
    check_names(folder, manifest)
    files = {name: _checked_file(folder, name, entry) for name, entry in manifest.files.items()}
    runs_per_clip = manifest.runs_per_clip()
    programs = {name: _read_program(folder, name, entry, files) for name, entry in manifest.programs.items()}
    check_nothing_else(folder, manifest)
    return Bundle(
        folder=folder,
        manifest=manifest,
        programs=programs,
        files=files,
        sha256=hashlib.sha256(data).hexdigest(),
        runs_per_clip=runs_per_clip,
        frames_per_clip=manifest.pipeline.frames.count if manifest.pipeline and runs_per_clip else None,
    )


def read_manifest(folder: Path | str) -> Manifest:
    """Read the manifest of a bundle without looking at the files that it lists.

    Raises `RunnerError` naming the file or the manifest's key: no bundle, unknown schema version, missing or mistyped
    field.
    """
    return _read_manifest(Path(folder))[0]


def listed_files(folder: Path | str) -> set[str]:
    """Paths of the files that the manifest in a folder lists, and its own; none if there is no such manifest."""
    try:
        return {MANIFEST, *read_manifest(folder).files}
    except RunnerError:
        return set()


def _bundle_inside(folder: Path) -> str:
    """A hint where the folder is that of a run or of one of its stages, which hold bundles."""
    inside = sorted(file.parent for pattern in ("bundle", "*/bundle") for file in folder.glob(f"{pattern}/{MANIFEST}"))
    return f". Did you mean {inside[-1]}?" if inside else ""


def _read_manifest(folder: Path) -> tuple[Manifest, bytes]:
    file = folder / MANIFEST
    try:
        data = read_bytes(file, MAX_MANIFEST_BYTES)
        content = parse_json(data, finite=False)
    except FileNotFoundError:
        raise RunnerError(f"{folder}: not a bundle, it has no {MANIFEST}{_bundle_inside(folder)}") from None
    except (OSError, ValueError) as error:
        raise RunnerError(f"{file}: cannot be read as JSON: {error}") from None
    return Manifest.from_json(content, file), data


def program_files(file: Path) -> list[Path]:
    """The files of a program: all files of its folder, or its file and the weights beside it.

    A large ONNX program refers to such a file of weights, and the runtime reads it.
    """
    if file.is_dir():
        return [path for path in sorted(file.rglob("*")) if not path.is_dir()]
    weights = file.with_name(f"{file.name}.data")
    return [file, *([weights] if os.path.lexists(weights) else [])]


def _read_program(folder: Path, name: str, entry: ProgramEntry, files: dict[str, CheckedFile]) -> BundleProgram:
    place = f"programs.{name}"
    file = _listed_program(folder, place, entry, files)
    of_program = program_files(file) if file.is_dir() else [file]
    inputs = [_read_tensor(folder, f"{place}.inputs[{i}]", each, files) for i, each in enumerate(entry.inputs)]
    outputs = [_read_tensor(folder, f"{place}.outputs[{i}]", each, files) for i, each in enumerate(entry.outputs)]
    return BundleProgram(
        name=name,
        file=file,
        size_bytes=sum(files[path.relative_to(folder).as_posix()].size_bytes for path in of_program),
        method=entry.method,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )


def _read_tensor(folder: Path, place: str, entry: TensorEntry, files: dict[str, CheckedFile]) -> BundleTensor:
    min_psnr_db = float(entry.min_psnr_db) if isinstance(entry, OutputEntry) else None
    file = _listed_file(folder, place, entry.file, files)
    tensor = BundleTensor(entry.name, entry.shape, entry.dtype, file, min_psnr_db)
    size = tensor.file.stat().st_size
    if size != tensor.size_bytes:
        raise RunnerError(
            f"{tensor.file}: has {size} bytes; {place} is {entry.dtype} {list(entry.shape)}, {tensor.size_bytes} bytes"
        )
    return tensor


def _listed_program(folder: Path, place: str, entry: ProgramEntry, files: dict[str, CheckedFile]) -> Path:
    """Path of a program, a file or a folder (`.mlpackage`); raises `RunnerError` if any of its files is not listed."""
    path = folder / entry.file
    if not path.is_dir():
        _listed_file(folder, place, entry.file, files)
    inside = [file.relative_to(folder).as_posix() for file in program_files(path)]
    for name in inside or [entry.file]:
        _listed_file(folder, place, name, files)
    return path


def _listed_file(folder: Path, place: str, name: str, files: dict[str, CheckedFile]) -> Path:
    if name not in files:
        raise RunnerError(
            f"{folder / MANIFEST}: {place}.file {name!r} is not listed under files, so its content cannot be checked"
        )
    return folder / name


def _checked_file(folder: Path, name: str, entry: FileEntry) -> CheckedFile:
    """Check that a file lies inside the folder, also after following links, and has the stated size and content."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RunnerError(f"{path}: is a link that leaves the bundle {folder}")
    if not path.is_file():
        raise RunnerError(f"{path}: is named in {MANIFEST} but does not exist")
    stamp = stamp_of(path)
    settled = stamp.settled
    if stamp.size_bytes != entry.size_bytes:
        raise RunnerError(f"{path}: has {stamp.size_bytes} bytes, {MANIFEST} says {entry.size_bytes}")
    if (found := sha256_of(path)) != entry.sha256.lower():
        raise RunnerError(f"{path}: its SHA-256 is {found}, {MANIFEST} says {entry.sha256}")
    return CheckedFile(found, stamp.size_bytes, stamp if settled else None)
