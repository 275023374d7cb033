"""Results in a terminal: tables that fit 80 columns, and text from files that cannot style or forge lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from device_runner.results.wording import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print names and messages from files and devices, without markup and without line ends that would forge a line."""
    console.print(cell(text), style=style, highlight=False)


def new_table() -> Table:
    """A narrow table: one rule under the head, two blanks between columns."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)


def cell(text: str, style: str = "") -> Text:
    """Text unchanged, in one line, without the control characters that move a terminal's cursor."""
    from rich.text import Text

    return Text(one_line(text), style=style)
