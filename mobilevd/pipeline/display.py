"""What is shown while a run works: a bar per activity on a terminal, a line per finished activity anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """One activity's progress; `note` is shown beside it (throughput, loss)."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def update(self, done: int, total: int, note: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, note=note)


class Display:
    """Bars and lines on a rich console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def heading(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]", highlight=False)

    @contextmanager
    def bar(self, what: str, total: int | None = None) -> Iterator[Bar]:
        """Show a bar while inside; afterwards a line with the time it took."""
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        started = time.perf_counter()
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(what, total=total, note="")
            bar = Bar(progress, task)
            yield bar
            note = progress.tasks[0].fields["note"]
        seconds = time.perf_counter() - started
        self.line(f"  {what}: {seconds:.1f} s" + (f"  ({note})" if note else ""))
