"""Progress in the terminal while devices work."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from device_runner.devices.job import Progress as Tell
from mobilevd.terminal import LOG_EVERY_S, TerminalConsole

REFRESHES_PER_S = 1
"""Ten a second, rich's own choice, take 1.5 % more of a core, on which another program may just be timed."""
BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells count


class PipeConsole(TerminalConsole):
    """A console whose reader may go away (`| head`): the command does not fail then, as 1 would mean a regression."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE)


@contextmanager
def show_progress(console: Console) -> Iterator[Callable[[str], Tell]]:
    """Show a line per device on a terminal; in a log, write a line for every program, and one now and then."""
    device = TextColumn("  {task.fields[device]}", markup=False)
    columns = (device, BarColumn(bar_width=10), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    bars = Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        refresh_per_second=REFRESHES_PER_S,
    )
    with bars:

        def of(device: str) -> Tell:
            task: TaskID = bars.add_task("", total=None, device=device)
            told, last = "", time.monotonic()

            def tell(text: str, share: float | None) -> None:
                nonlocal told, last
                bars.update(task, description=text, total=None if share is None else 1.0, completed=share or 0)
                if console.is_terminal:
                    return
                program, now = text.partition(": ")[0], time.monotonic()
                if program != told or now - last >= LOG_EVERY_S:
                    line = text if program == told else program
                    told, last = program, now
                    console.print(f"{device}: {line}", highlight=False, markup=False, soft_wrap=True)

            return tell

        yield of
