"""Progress in the terminal while devices work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from device_runner.devices.job import Progress as Tell
from mobilevd.terminal import TerminalConsole

BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells count


class PipeConsole(TerminalConsole):
    """A console whose reader may go away (`| head`): the command does not fail then, as 1 would mean a regression."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE)


@contextmanager
def show_progress(console: Console) -> Iterator[Callable[[str], Tell]]:
    """Show a line per device on a terminal; in a log, write a line whenever a device starts another program."""
    device = TextColumn("  {task.fields[device]}", markup=False)
    columns = (device, BarColumn(bar_width=20), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:

        def of(device: str) -> Tell:
            task: TaskID = bars.add_task("", total=None, device=device)
            told = ""

            def tell(text: str, share: float | None) -> None:
                nonlocal told
                bars.update(task, description=text, total=None if share is None else 1.0, completed=share or 0)
                program = text.partition(": ")[0]
                if not console.is_terminal and program != told:
                    told = program
                    console.print(f"{device}: {program}", highlight=False, markup=False, soft_wrap=True)

            return tell

        yield of
