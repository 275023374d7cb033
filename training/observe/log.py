"""The log of a training: `training_log.jsonl`, one line of JSON per logged step and per validation.

Lines are only appended, so what a checkpoint's rotation deletes is never the history. A training that goes on from an
earlier step first cuts the lines after it: the file always tells one course of the training.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mobilevd.errors import UserError
from mobilevd.files import atomic_write_bytes, disk_full_is_a_user_error
from training.observe.report import Report, ShownClips

FILE = "training_log.jsonl"
STEP, VALIDATION = "step", "validation"
"""Kinds of lines."""


@dataclass(frozen=True)
class TrainingHistory:
    """The lines of a log, in order: of logged steps and of validations."""

    steps: list[dict[str, Any]]
    validations: list[dict[str, Any]]

    def series(self, figure: str) -> list[tuple[int, float]]:
        """(step, value) of a figure of the logged steps, where it has a value."""
        found = ((line["step"], line["figures"].get(figure)) for line in self.steps)
        return [(step, value) for step, value in found if value is not None]


class TrainingLog:
    """The log of a stage's training as an observer.

    Args:
        folder: the stage's folder.
        step: the step that the training starts after; later lines are cut, and one that a kill tore.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.file = folder / FILE
        _cut(self.file, step)

    def logged(self, report: Report) -> None:
        """Append the line of a step."""
        self._append({"kind": STEP, **asdict(report)})

    def validated(self, step: int, figures: dict[str, float], clips: ShownClips | None) -> None:
        """Append the line of a validation; its files are named as seen from the stage's folder."""
        files = {} if clips is None else {"video": clips.video, "sheet": clips.sheet, **clips.pictures}
        names = {name: path.relative_to(self.file.parent).as_posix() for name, path in files.items()}
        self._append({"kind": VALIDATION, "step": step, "figures": figures, "files": names})

    def close(self) -> None:
        """Nothing is left to do: every line is in the file already."""

    def _append(self, values: dict[str, Any]) -> None:
        values["time"] = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps(_finite(values), allow_nan=False) + "\n"
        with disk_full_is_a_user_error(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as file:  # unbuffered work is done when it is closed: a kill loses no line
                file.write(line.encode())


def read_log(folder: Path) -> TrainingHistory:
    """The log of a stage's folder; empty if there is none. A line that a kill tore is left out."""
    file = folder / FILE
    lines = [] if not file.is_file() else [parsed for _, parsed in _lines(file.read_bytes())]
    kinds = {kind: [line for line in lines if line["kind"] == kind] for kind in (STEP, VALIDATION)}
    return TrainingHistory(kinds[STEP], kinds[VALIDATION])


def _cut(file: Path, step: int) -> None:
    """Leave only whole lines of steps up to `step`. UserError if the file is no log of ours."""
    if not file.is_file():
        return
    content = file.read_bytes()
    lines = _lines(content)
    if b"\n" in content and not lines:
        raise UserError(f"{file}: is not the log of a training, so it is not replaced; give it another name")
    kept = b"".join(raw for raw, parsed in lines if parsed["step"] <= step)
    if kept != content:
        atomic_write_bytes(file, kept)


def _lines(content: bytes) -> list[tuple[bytes, dict[str, Any]]]:
    """The whole lines that a log has, raw and parsed."""
    found = []
    for raw in content.splitlines(keepends=True):
        try:
            parsed = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if raw.endswith(b"\n") and isinstance(parsed, dict) and _is_line(parsed):
            found.append((raw, parsed))
    return found


def _is_line(parsed: dict[str, Any]) -> bool:
    has_figures = isinstance(parsed.get("figures"), dict)
    return parsed.get("kind") in (STEP, VALIDATION) and type(parsed.get("step")) is int and has_figures


def _finite(value: Any) -> Any:
    """The value with None in the place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
