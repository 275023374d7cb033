"""Files inside the page: as data URIs, so that one file is the whole report."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from pathlib import Path

from mobilevd.report.run_data import ReportedRun, raw_files

CLIPS_BYTES = 24 * 2**20
"""Most bytes of clips in a page: what a phone's browser still opens. Fewer clips are shown where they are larger."""
RAW_BYTES = 2**20
"""A larger raw file is linked and not embedded."""
TYPES = {".mp4": "video/mp4", ".json": "application/json", ".jsonl": "application/jsonl", ".png": "image/png"}


@dataclass(frozen=True)
class ShownVideo:
    """A clip in the page: whose it is, and its data URI."""

    title: str
    uri: str


@dataclass(frozen=True)
class RawFile:
    """A file that figures were read from: path in the run's folder, and its data URI; "" where it is too large."""

    path: str
    name: str
    uri: str


def data_uri(file: Path) -> str:
    """The content of a file as a data URI."""
    return f"data:{TYPES[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"


def clip_groups(run: ReportedRun) -> tuple[list[list[ShownVideo]], int]:
    """For each shown clip its videos side by side (real, then every row, then programs), and how many did not fit."""
    columns = [("real", run.real_clips)]
    for row in run.rows:
        columns.append((row.name, row.clips))
        columns += [(f"{row.name}, exported program", row.program_clips)] if row.program_clips else []
    columns = [(title, files) for title, files in columns if files]
    count = min((len(files) for title, files in columns if title != "real"), default=0)
    sizes = [sum(files[i].stat().st_size for _, files in columns if i < len(files)) for i in range(count)]
    fitting, total = 0, 0.0
    while fitting < count and total + sizes[fitting] <= CLIPS_BYTES:
        total += sizes[fitting]
        fitting += 1
    fitting = max(fitting, min(count, 1))
    groups = [
        [ShownVideo(title, data_uri(files[i])) for title, files in columns if i < len(files)] for i in range(fitting)
    ]
    return groups, count - fitting


def validation_videos(run: ReportedRun, stage: int, most: int = 3) -> list[ShownVideo]:
    """Clips of a row's training as it went: its first validation, some between, and the last."""
    row = run.rows[stage]
    found = []
    for line in row.history.validations:
        file = _inside(row.folder, (line.get("files") or {}).get("video"))
        if file is not None:
            found.append((line["step"], file))
    if len(found) > most:
        found = [found[math.floor(i * (len(found) - 1) / (most - 1))] for i in range(most)]
    return [ShownVideo(f"step {step:,}", data_uri(file)) for step, file in found]


def _inside(folder: Path | None, name: object) -> Path | None:
    """The file of that name in a folder; None if it is not there, or the name, which a log may give, leads outside."""
    if folder is None or not isinstance(name, str):
        return None
    file = (folder / name).resolve()
    return file if folder.resolve() in file.parents and file.is_file() and file.suffix in TYPES else None


def raw_files_of(run: ReportedRun, stage: int) -> list[RawFile]:
    """The raw files of a row, each for download from the page."""
    row = run.rows[stage]
    files = []
    for file in raw_files(row):
        uri = data_uri(file) if file.stat().st_size <= RAW_BYTES else ""
        path = file.relative_to(run.folder).as_posix()
        files.append(RawFile(path, path.replace("/", "-"), uri))
    return files
