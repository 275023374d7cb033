"""The folder of a run: one run at a time writes into it, and nothing in it that is not a run's is replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from mobilevd.errors import UserError
from mobilevd.folder_lock import hold_folder
from mobilevd.pipeline.make_anew import NOTE as ANEW
from mobilevd.places import check_output_file, is_json_with
from mobilevd.report.page_file import is_html_report
from mobilevd.report.results_file import is_report
from mobilevd.temporary import remove_leftovers_in


@contextmanager
def hold_run_folder(folder: Path, processes: PartialState) -> Iterator[None]:
    """Hold the folder for all processes of this run; the first alone locks it, and all raise what that met."""
    with ExitStack() as stack:
        error: list[str | None] = [None]
        if processes.is_main_process:
            try:
                check_run_files(folder)
                stack.enter_context(hold_folder(folder))
                remove_leftovers_in(folder)
            except UserError as refused:
                error = [str(refused)]
        if processes.num_processes > 1:
            broadcast_object_list(error)
        if error[0] is not None:
            raise UserError(error[0])
        yield


def check_run_files(folder: Path) -> None:
    """Raise UserError if the folder is a file, or holds files of a run's names that are something else."""
    rules: dict[str, Callable[[Path], bool]] = {
        "config.json": is_json_with("base", "stages"),
        "results.json": is_json_with("rows", "settings"),
        ANEW: is_json_with("from", "removed"),
        "report.md": is_report,
        "report.html": is_html_report,
    }
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give output=FOLDER")
    for name, ours in rules.items():
        check_output_file(folder / name, ours, "a run's; give output=ANOTHER_FOLDER")
