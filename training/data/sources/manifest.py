"""Manifests: a .csv or .jsonl file with a `path`, and perhaps `start` and `end` in seconds, per line."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mobilevd.errors import UserError
from training.data.sources.missing import first_few
from training.data.videos import Video, part_name

MANIFESTS = (".csv", ".jsonl")


def read_manifest(file: Path) -> list[Video]:
    """The videos of a manifest, in its order; a part that two lines name is taken once.

    `path` is absolute, or relative to the manifest's folder, which it must not leave; other columns and keys are ignored.

    Raises UserError for a line that is wrong, with its number, and for missing files, all at once.
    """
    videos: dict[str, Video] = {}
    missing: list[str] = []
    there: dict[Path, bool] = {}
    for number, row in _rows(file):
        video = _video(f"{file}, line {number}", file.parent, row)
        if video.path not in there:
            there[video.path] = video.path.is_file()
            if not there[video.path]:
                missing.append(str(row["path"]))
        videos.setdefault(video.name, video)
    if missing:
        raise UserError(
            f"{file}: {len(missing)} of its {len(there)} files are missing ({first_few(missing)}); paths are relative to "
            f"{file.parent} or absolute"
        )
    return list(videos.values())


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with the number of their line."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            if file.suffix.lower() == ".jsonl":
                yield from _json_rows(file, lines)
                return
            table = csv.DictReader(lines)
            if "path" not in (table.fieldnames or ()):
                raise UserError(f"{file}, line 1: no column `path` (its columns: {', '.join(table.fieldnames or ())})")
            for row in table:
                yield table.line_num, row
    except FileNotFoundError:
        raise UserError(f"{file} does not exist: a manifest of videos was expected") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read as a manifest ({error})") from None


def _json_rows(file: Path, lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{file}, line {number}: no JSON object; one a line is expected") from None
        if not isinstance(row, dict):
            raise UserError(f"{file}, line {number}: no JSON object; one a line is expected")
        yield number, row


def _video(where: str, folder: Path, row: Mapping[str, Any]) -> Video:
    path = row.get("path")
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise UserError(f"{where}: no `path` of a video")
    start_s, end_s = _seconds(where, row, "start") or 0.0, _seconds(where, row, "end")
    if end_s is not None and end_s <= start_s:
        raise UserError(f"{where}: the part ends at {end_s:g} s, which is not after its start at {start_s:g} s")
    inner = os.path.normpath(path)
    if not os.path.isabs(path) and inner.split(os.sep)[0] == os.pardir:
        raise UserError(f"{where}: {path} leaves the manifest's folder; give such a file by its absolute path")
    name = Path(inner).as_posix()
    return Video(part_name(name, start_s, end_s), folder / inner, start_s=start_s, end_s=end_s)


def _seconds(where: str, row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise UserError(f"{where}: `{key}` is {value!r}: seconds, from 0 on, were expected")
    return seconds
