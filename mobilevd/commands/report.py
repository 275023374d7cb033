"""`mobilevd report`: prints the table of a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from eval.report import render_table, write_report_markdown
from mobilevd.errors import UserError
from mobilevd.json_files import load_json
from mobilevd.pipeline.row_files import check_row_files
from mobilevd.pipeline.run_folder import is_report
from mobilevd.places import check_output_file
from mobilevd.terminal import TerminalConsole


def report_command(run_folder: Path, console: Console | None = None) -> None:
    """Print the table of a run from its results.json, and rewrite its report.md.

    Raises UserError for a folder that holds no results of a run.
    """
    file = run_folder / "results.json"
    try:
        results = load_json(file)
    except FileNotFoundError:
        raise UserError(f"{file}: not there; `mobilevd run` writes it when the run is done") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not JSON ({error}); give the command of the run again") from None
    if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
        raise UserError(f"{file}: not the results of a run; give the command of the run again")
    check_output_file(run_folder / "report.md", is_report, "a run's report")
    console = console or TerminalConsole()
    if unknown := [row["name"] for row in results["rows"] if not _check_row(run_folder, row)]:
        console.print(f"not checked, for want of a record of their files: {', '.join(unknown)}", markup=False)
    write_report_markdown(run_folder / "report.md", results)
    render_table(
        results["rows"],
        console,
        protocol=results.get("protocol"),
        unavailable=results.get("unavailable"),
        remarks=results.get("remarks") or (),
    )


def _check_row(run_folder: Path, row: Any) -> bool:
    """True if the files that a row's figures are of lie there; False if the row does not tell which.

    Raises UserError for a row that is none, or whose figures are of other files.
    """
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise UserError(f"{run_folder / 'results.json'}: a row without a name; give the command of the run again")
    place = run_folder / str(row.get("folder", ""))
    if "files" not in row or place.parent != run_folder or not place.is_dir():
        return False
    check_row_files(place, row["files"])
    return True
