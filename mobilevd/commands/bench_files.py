"""The files that `mobilevd bench` writes besides its output in the terminal."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_runner.results.csv import COLUMNS, SAMPLE_COLUMNS, write_csv, write_samples_csv
from device_runner.results.page import write_page
from mobilevd.errors import UserError
from mobilevd.files import atomic_file, atomic_write_text
from mobilevd.places import begins_with, check_output_file, is_json_of_kind, is_json_with


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

    def check(self, inputs: Sequence[Path] = (), kind: str | None = None) -> None:
        """Raise `UserError` if a file cannot or must not be written, before measuring rather than after.

        Args:
            inputs: folders and files that are read, which are never written.
            kind: entry `kind` of the JSON file; None for the results of programs.
        """
        seen: set[Path] = set()
        for file, ours, what in (
            (
                self.json,
                is_json_with("measurements") if kind is None else is_json_of_kind(kind),
                "results of this kind",
            ),
            (self.csv, begins_with(COLUMNS[0]), "a table of results"),
            (self.samples_csv, begins_with(",".join(SAMPLE_COLUMNS)), "a table of samples"),
            (self.html, _is_page, "a page of results"),
        ):
            if file is None:
                continue
            check_output_file(file, ours, what, inputs)
            if file.resolve() in seen:
                raise UserError(f"{file}: is named for two kinds of results; give each a file of its own")
            seen.add(file.resolve())

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


def _is_page(file: Path) -> bool:
    with file.open("rb") as opened:
        return b"<title>Latency of " in opened.read(1 << 16)
