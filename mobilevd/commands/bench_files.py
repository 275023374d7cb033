"""The files that `mobilevd bench` writes besides its output in the terminal."""

from __future__ import annotations

import json as json_format
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_runner.results.csv import write_csv, write_samples_csv
from device_runner.results.page import write_page
from mobilevd.errors import UserError
from mobilevd.files import atomic_file, atomic_write_text


@dataclass(frozen=True)
class BenchFiles:
    """Paths of the files, each optional; an old file stays as it is until the new one is complete."""

    json: Path | None = None
    csv: Path | None = None
    samples_csv: Path | None = None
    html: Path | None = None

    def given(self) -> list[Path]:
        """The files that were asked for."""
        return [file for file in (self.json, self.csv, self.samples_csv, self.html) if file is not None]

    def check(self) -> None:
        """Raise `UserError` if a file cannot be written, before measuring rather than after."""
        seen: set[Path] = set()
        for file in self.given():
            if file.is_dir():
                raise UserError(f"{file}: is a folder; give the name of a file to write")
            if file.resolve() in seen:
                raise UserError(f"{file}: is named for two kinds of results; give each a file of its own")
            seen.add(file.resolve())
            check_writable(file)

    def write(self, report: Mapping[str, Any]) -> list[Path]:
        """Write the files that were asked for, each completely or not at all, and return their paths."""
        if self.json is not None:
            # On one line: a long run has a million samples.
            atomic_write_text(self.json, json_format.dumps(report, allow_nan=False) + "\n")
        for file, writer in ((self.csv, write_csv), (self.samples_csv, write_samples_csv), (self.html, write_page)):
            if file is not None:
                with atomic_file(file) as temporary:
                    writer(report, temporary)
        return self.given()


def check_writable(file: Path) -> None:
    """Raise `UserError` if the file's folder cannot be made or written to."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}; name another place") from None
