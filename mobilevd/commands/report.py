"""`mobilevd report`: prints the table of a finished run again."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from eval.report import render_table, write_report_markdown
from mobilevd.errors import UserError


def report_command(run_folder: Path, console: Console | None = None) -> None:
    """Print the table of a run from its results.json, and rewrite its report.md.

    Raises UserError for a folder that holds no results of a run.
    """
    file = run_folder / "results.json"
    try:
        results = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f"{file}: not there; `mobilevd run` writes it when the run is done") from None
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error}); give the command of the run again") from None
    write_report_markdown(run_folder / "report.md", results)
    render_table(
        results["rows"],
        console or Console(),
        protocol=results.get("protocol"),
        unavailable=results.get("unavailable"),
    )
