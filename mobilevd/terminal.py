"""The terminal: text from files, names and devices is shown on it, and cannot move its cursor or change its colours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.segment import Segment

from mobilevd.plain_text import visible

LOG_EVERY_S = 30.0
"""Seconds between the lines that replace a bar where there is no terminal."""


class TerminalConsole(Console):
    """rich's console, on which all text is `visible`, wherever it stands: in tables, lines or titles."""

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
