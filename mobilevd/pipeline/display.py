"""Progress of a run: a bar per activity on a terminal, a line per finished activity anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mobilevd.terminal import LOG_EVERY_S
from training.observe.line import describe_report, describe_validation
from training.observe.report import Report, ShownClips

BAR_COLUMNS = 80  # of a terminal, that a bar takes without its note


class ActivityBar:
    """One activity's progress; `note` is shown beside it (throughput, loss). A log file gets a line now and then."""

    def __init__(self, progress: Progress, task: Any, what: str, console: Console) -> None:
        self._progress, self._task, self._what, self._console = progress, task, what, console
        self._last_line = time.perf_counter()

    def update(self, done: int, total: int, note: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, note=note)
        if not self._console.is_terminal and time.perf_counter() - self._last_line > LOG_EVERY_S:
            self._last_line = time.perf_counter()
            line = f"  {self._what}: {done}/{total}" + (f", {note}" if note else "")
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def tell(self, text: str, share: float | None = None) -> None:
        """Show what a device does, in words; once it is over, nothing is left of them."""
        self._progress.update(self._task, note=text)
        if text and not self._console.is_terminal and time.perf_counter() - self._last_line > LOG_EVERY_S:
            self._last_line = time.perf_counter()
            self._console.print(f"  {self._what}: {text}", highlight=False, markup=False, soft_wrap=True)


class TrainingDisplay:
    """A training's bar as an observer: the newest report beside it, a line of its own for every validation."""

    def __init__(self, bar: ActivityBar, display: Display) -> None:
        self._bar, self._display = bar, display

    def logged(self, report: Report) -> None:
        """Move the bar; a log file gets the whole line now and then."""
        console = self._display.console
        room = max(40, console.width - BAR_COLUMNS) if console.is_terminal else None
        self._bar.update(report.step, report.steps, describe_report(report, room))

    def validated(self, step: int, figures: dict[str, float], clips: ShownClips | None) -> None:
        """Tell the figures, and what there is in lines of text beside them."""
        self._display.line(f"  {describe_validation(step, figures)}")
        if clips is not None and clips.text and not self._display.console.is_terminal:
            self._display.line("\n".join(f"  {line}" for line in clips.text.splitlines()))

    def close(self) -> None:
        """The bar ends with its context."""


class Display:
    """Bars and lines on a rich console."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def heading(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/bold]", highlight=False)

    @contextmanager
    def bar(self, what: str, total: int | None = None) -> Iterator[ActivityBar]:
        """Show a bar while the context lasts, and a line with the elapsed time after it."""
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
            bar = ActivityBar(progress, task, what, self.console)
            yield bar
            note = progress.tasks[0].fields["note"]
        seconds = time.perf_counter() - started
        self.line(f"  {what}: {seconds:.1f} s" + (f"  ({note})" if note else ""))
