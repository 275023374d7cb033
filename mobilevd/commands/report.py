"""`mobilevd report`: the table and the page of finished runs again, of one or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mobilevd.errors import UserError
from mobilevd.places import check_output_file
from mobilevd.report.page_file import FILE, is_html_report
from mobilevd.report.results_file import RESULTS, is_report, read_results
from mobilevd.terminal import TerminalConsole

if TYPE_CHECKING:
    from mobilevd.report.run_data import ReportedRun


def report_command(run_folders: Sequence[Path], out: Path | None = None, console: Console | None = None) -> None:
    """Print the tables of runs from their results.json, rewrite each report.md, and write the page.

    Args:
        run_folders: of finished runs.
        out: file of the page; None: report.html in the run's folder, or in the current one for several runs.

    Raises UserError for a folder that holds no results of a run, and for a place whose content is not ours.
    """
    for folder in run_folders:
        read_results(folder)  # all of them, before anything is written
        check_output_file(folder / "report.md", is_report, "a run's report")
    if len({folder.resolve() for folder in run_folders}) < len(run_folders):
        raise UserError("the same run is given twice; name each once")
    page = out or (run_folders[0] if len(run_folders) == 1 else Path()) / FILE
    check_output_file(page, is_html_report, "a report of runs", inputs=[folder / RESULTS for folder in run_folders])
    console = console or TerminalConsole()
    from mobilevd.report.page import write_report  # torch, which the checks above do not wait for
    from mobilevd.report.run_data import read_run

    runs = [read_run(folder) for folder in run_folders]
    for run in runs:
        _tell(run, console, with_name=len(runs) > 1)
    write_report(runs, page)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)


def _tell(run: ReportedRun, console: Console, with_name: bool) -> None:
    """Check a run's files, rewrite its report.md, and print its table."""
    from eval.report import render_table, write_report_markdown
    from mobilevd.pipeline.row_files import check_row_files

    if with_name:
        console.print(f"\n{run.folder}", style="bold", markup=False, highlight=False)
    unknown = [row.name for row in run.rows if row.folder is None or "files" not in row.figures]
    for row in run.rows:
        if row.folder is not None and "files" in row.figures:
            check_row_files(row.folder, row.figures["files"])
    if unknown:
        console.print(f"not checked, for want of a record of their files: {', '.join(unknown)}", markup=False)
    write_report_markdown(run.folder / "report.md", run.results)
    render_table(
        run.results["rows"],
        console,
        protocol=run.results.get("protocol"),
        unavailable=run.results.get("unavailable"),
        remarks=run.results.get("remarks") or (),
    )
