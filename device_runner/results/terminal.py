"""Results in a terminal: tables that fit 80 columns, and text from files that cannot style or forge lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from device_runner.results.wording import one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

LEAST_FOR_NAMES = 8
"""Characters of a row's name that stay on a line, however narrow the terminal; the rest is folded."""


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


Rows = Sequence[Sequence["Text"]]


def print_sections(
    console: Console, heads: Sequence[str], sections: Mapping[Sequence[str], Rows], words_last: bool = False
) -> None:
    """Print one table in sections, each under its lines of text, which are too long for a column.

    Of a single section the lines stand above the table. The first column holds names, which are folded where the terminal
    is narrow; the others hold numbers, which never are.

    Args:
        heads: of the columns; a line end splits one.
        sections: lines above the rows, and the rows.
        words_last: the last column holds words.
    """
    rows = [row for each in sections.values() for row in each]
    widths = [
        max(max(map(len, head.split("\n"))), *(len(row[index]) for row in rows)) for index, head in enumerate(heads)
    ]
    blanks = 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(LEAST_FOR_NAMES, console.width - sum(widths[1:]) - blanks))
    words = {0, len(heads) - 1} if words_last else {0}
    if len(sections) > 1:
        console.print(_table(heads, widths, words, []))
    for lines, of_section in sections.items():
        for line in lines:
            print_line(console, line, "italic")
        console.print(_table(heads if len(sections) == 1 else (), widths, words, of_section))


def _table(heads: Sequence[str], widths: Sequence[int], words: set[int], rows: Rows) -> Table:
    """A table with columns of these widths, so that several stand one below the other as one; without heads if none."""
    table = new_table()
    table.show_header = bool(heads)
    for index, width in enumerate(widths):
        justify = "left" if index in words else "right"
        head = heads[index] if heads else ""
        table.add_column(head, justify=justify, no_wrap=index > 0, overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    return table
