"""Reads a bundle: the folder with programs, manifest and reference tensors that is all a device needs.

Nothing in a bundle is believed: every field is checked, every file must lie inside the folder and have the
size and the SHA-256 that the manifest gives, and every raw tensor file must have the size of its shape and
dtype.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from device_runner.contents import FileEntry, sha256_of, stamp_of
from device_runner.errors import RunnerError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
DTYPE_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "float16": 2,
    "int32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
}


@dataclass(frozen=True)
class Tensor:
    """One input or output of a program, with its reference values in a raw file (C order, little-endian)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    min_psnr_db: float | None = None
    """For outputs: a device's values count only if their PSNR against the reference is at least this."""

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True)
class Program:
    """One program file and the method of it to run."""

    name: str
    file: Path
    size_bytes: int
    """Of the file, or of all files in the folder, as the manifest says."""
    method: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    parity: dict[str, Any]
    delegation: dict[str, Any]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were all checked."""

    folder: Path
    name: str
    target: str
    precision: str
    created: str
    programs: dict[str, Program]
    model: dict[str, Any]
    files: dict[str, FileEntry]
    tools: dict[str, Any]
    sha256: str
    """Of the manifest, which holds those of all other files."""
    runs_per_clip: dict[str, int] | None = None
    """For a bundle of the whole path from a picture to frames: its programs in order, and how often each runs."""
    frames_per_clip: int | None = None
    """Frames that these runs make."""

    def program(self, name: str) -> Program:
        """The program of that name; `RunnerError` lists those the bundle has."""
        if name not in self.programs:
            raise RunnerError(f"{self.folder}: the bundle has no program {name!r}; it has: {', '.join(self.programs)}")
        return self.programs[name]

    def name_of(self, path: Path) -> str:
        """What the manifest calls a file of the bundle."""
        return path.relative_to(self.folder).as_posix()


class _Object:
    """A JSON object of the manifest together with its place, for errors that name the key."""

    def __init__(self, manifest: Path, place: str, value: Any) -> None:
        self.manifest, self.place = manifest, place
        if not isinstance(value, dict):
            raise self.error(f"must be an object, not {value!r}")
        self.value: dict[str, Any] = value

    def place_of(self, key: str) -> str:
        return ".".join(part for part in (self.place, key) if part)

    def error(self, text: str, key: str = "") -> RunnerError:
        return RunnerError(f"{self.manifest}: {self.place_of(key) or 'the whole'} {text}")

    def get(self, key: str, kind: type | tuple[type, ...], what: str) -> Any:
        value = self.value.get(key)
        if key not in self.value or not isinstance(value, kind) or isinstance(value, bool):
            found = f"not {value!r}" if key in self.value else "but is missing"
            raise self.error(f"must be {what}, {found}", key)
        return value

    def text(self, key: str) -> str:
        value = self.get(key, str, "a text")
        if not value:
            raise self.error("must not be empty", key)
        return value

    def whole(self, key: str) -> int:
        value = self.get(key, int, "a whole number")
        if value < 0:
            raise self.error(f"must not be negative, got {value}", key)
        return value

    def child(self, key: str) -> _Object:
        return _Object(self.manifest, self.place_of(key), self.get(key, dict, "an object"))

    def children(self, key: str) -> list[_Object]:
        items = self.get(key, list, "a list")
        return [_Object(self.manifest, f"{self.place_of(key)}[{index}]", item) for index, item in enumerate(items)]


def read_bundle(folder: Path | str) -> Bundle:
    """Read and check a bundle; every file is hashed once.

    Raises `RunnerError` naming the file or the manifest's key: unknown schema version, missing or mistyped
    field, path that leaves the folder, missing file, wrong size, wrong SHA-256.
    """
    folder = Path(folder)
    manifest = folder / MANIFEST
    try:
        data = manifest.read_bytes()
        root = _Object(manifest, "", json.loads(data))
    except FileNotFoundError:
        raise RunnerError(f"{folder}: not a bundle, it has no {MANIFEST}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunnerError(f"{manifest}: cannot be read as JSON: {error}") from None
    version = root.value.get("schema_version")
    if version != SCHEMA_VERSION:
        raise root.error(f"is {version!r}; this program reads version {SCHEMA_VERSION}", "schema_version")

    files = {}
    listed = root.child("files")
    for name in listed.value:
        entry = listed.child(name)
        files[name] = _checked_file(folder, name, FileEntry(entry.text("sha256").lower(), entry.whole("size_bytes")))
    programs = {}
    for name in root.child("programs").value:
        programs[name] = _read_program(folder, name, root.child("programs").child(name), files)
    if not programs:
        raise root.error("must name at least one program", "programs")
    runs_per_clip = _runs_per_clip(root, programs) if "pipeline" in root.value else None
    return Bundle(
        folder=folder,
        name=root.text("name"),
        target=root.text("target"),
        precision=root.text("precision"),
        created=root.text("created"),
        programs=programs,
        model=root.child("model").value,
        files=files,
        tools=root.child("tools").value,
        sha256=hashlib.sha256(data).hexdigest(),
        runs_per_clip=runs_per_clip,
        frames_per_clip=root.child("pipeline").child("frames").whole("count") if runs_per_clip else None,
    )


def _runs_per_clip(root: _Object, programs: dict[str, Program]) -> dict[str, int] | None:
    """How often each program of the path runs for one clip; None if the bundle lacks one of them.

    The last program of the order is the decoder, which takes `frames_per_chunk` frames at a time; those left over have
    a program of their own.
    """
    pipeline = root.child("pipeline")
    order = pipeline.get("order", list, "a list of programs")
    if not order or any(name not in programs for name in order):
        return None
    frames, decoder = pipeline.child("frames").whole("count"), pipeline.child("decoder")
    chunk = decoder.whole("frames_per_chunk")
    if not 0 < chunk <= frames:
        raise decoder.error(f"must be from 1 to the {frames} frames of a clip, not {chunk}", "frames_per_chunk")
    runs = dict.fromkeys(order, 1) | {order[-1]: frames // chunk}
    if frames % chunk:
        rest = decoder.text("program_for_frames_left_over")
        if rest not in programs:
            raise decoder.error(f"{rest!r} is not a program of the bundle", "program_for_frames_left_over")
        runs[rest] = 1
    return runs


def program_files(file: Path) -> list[Path]:
    """What a program is made of: all of a folder, or the file and the weights that lie beside it.

    A large ONNX program names such a file of weights, and the runtime reads it.
    """
    if file.is_dir():
        return [path for path in sorted(file.rglob("*")) if not path.is_dir()]
    weights = file.with_name(f"{file.name}.data")
    return [file, *([weights] if os.path.lexists(weights) else [])]


def _read_program(folder: Path, name: str, entry: _Object, files: dict[str, FileEntry]) -> Program:
    file = _listed_program(folder, entry, files)
    of_program = program_files(file) if file.is_dir() else [file]
    return Program(
        name=name,
        file=file,
        size_bytes=sum(files[path.relative_to(folder).as_posix()].size_bytes for path in of_program),
        method=entry.text("method"),
        inputs=tuple(_read_tensor(folder, each, files, is_output=False) for each in entry.children("inputs")),
        outputs=tuple(_read_tensor(folder, each, files, is_output=True) for each in entry.children("outputs")),
        parity=entry.child("parity").value,
        delegation=entry.child("delegation").value,
    )


def _read_tensor(folder: Path, entry: _Object, files: dict[str, FileEntry], is_output: bool) -> Tensor:
    shape = entry.get("shape", list, "a list of positive whole numbers")
    if not all(type(size) is int and size > 0 for size in shape):
        raise entry.error(f"must be a list of positive whole numbers, not {shape!r}", "shape")
    dtype = entry.text("dtype")
    if dtype not in DTYPE_BYTES:
        raise entry.error(f"{dtype!r} is not known; known: {', '.join(DTYPE_BYTES)}", "dtype")
    min_psnr_db = None
    if is_output:
        min_psnr_db = float(entry.get("min_psnr_db", (int, float), "a number"))
        if not math.isfinite(min_psnr_db):
            raise entry.error(f"must be finite, not {min_psnr_db}", "min_psnr_db")
    tensor = Tensor(entry.text("name"), tuple(shape), dtype, _listed_file(folder, entry, files), min_psnr_db)
    size = tensor.file.stat().st_size
    if size != tensor.size_bytes:
        raise RunnerError(
            f"{tensor.file}: has {size} bytes; {entry.place} is {dtype} {shape}, {tensor.size_bytes} bytes"
        )
    return tensor


def _listed_program(folder: Path, entry: _Object, files: dict[str, FileEntry]) -> Path:
    """A program is a file or a folder (`.mlpackage`); every file that it is made of is listed."""
    path = folder / entry.text("file")
    if not path.is_dir():
        _listed_file(folder, entry, files)
    inside = [file.relative_to(folder).as_posix() for file in program_files(path)]
    if unlisted := [name for name in inside if name not in files] or ([entry.text("file")] if not inside else []):
        raise entry.error(f"{unlisted[0]!r} is not listed under files, so its content cannot be checked", "file")
    return path


def _listed_file(folder: Path, entry: _Object, files: dict[str, FileEntry]) -> Path:
    name = entry.text("file")
    if name not in files:
        raise entry.error(f"{name!r} is not listed under files, so its content cannot be checked", "file")
    return folder / name


def _checked_file(folder: Path, name: str, entry: FileEntry) -> FileEntry:
    """The file lies inside the folder, also after following links, and has the stated size and content.

    Returns the entry with the file's stamp, if that vouches for the content.
    """
    path = folder / name
    # A bundle travels between systems, so both separators count as such.
    parts = name.replace("\\", "/").split("/")
    if not name or os.path.isabs(name) or parts[0].endswith(":") or ".." in parts or parts[0] == "":
        raise RunnerError(f"{folder / MANIFEST}: files: {name!r} leaves the bundle; paths must be relative and inside")
    if (plain := PurePosixPath(name).as_posix()) != name:
        raise RunnerError(f"{folder / MANIFEST}: files: {name!r} must be written {plain!r}, the one way of naming it")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RunnerError(f"{path}: is a link that leaves the bundle {folder}")
    if not path.is_file():
        raise RunnerError(f"{path}: is named in {MANIFEST} but does not exist")
    stamp = stamp_of(path)
    settled = stamp.settled
    if stamp.size_bytes != entry.size_bytes:
        raise RunnerError(f"{path}: has {stamp.size_bytes} bytes, {MANIFEST} says {entry.size_bytes}")
    if (found := sha256_of(path)) != entry.sha256:
        raise RunnerError(f"{path}: its SHA-256 is {found}, {MANIFEST} says {entry.sha256}")
    return replace(entry, stamp=stamp if settled else None)
