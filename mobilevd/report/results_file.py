"""The file of a run's figures: found, read and checked, without what else a report needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilevd.errors import UserError
from mobilevd.json_files import load_json

RESULTS = "results.json"


def read_results(folder: Path) -> dict[str, Any]:
    """The content of a run's results.json. UserError for a folder without one, or with another file of that name."""
    file = folder / RESULTS
    if folder.is_file():
        raise UserError(f"{folder}: is a file; give the folder of a run, which holds {RESULTS}")
    try:
        results = load_json(file)
    except FileNotFoundError:
        raise UserError(f"{file}: not there; `mobilevd run` writes it when the run is done") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not JSON ({error}); give the command of the run again") from None
    rows = results.get("rows") if isinstance(results, dict) else None
    if not isinstance(results, dict) or not isinstance(rows, list):
        raise UserError(f"{file}: not the results of a run; give the command of the run again")
    if not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows):
        raise UserError(f"{file}: a row without a name; give the command of the run again")
    return results


def is_report(file: Path) -> bool:
    """True for a report.md of a run."""
    return b"\n## Cumulative effect\n" in file.read_bytes()
