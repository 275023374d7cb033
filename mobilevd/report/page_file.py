"""The file of the page: what it is called, and by what it is known, so that no other file is replaced."""

from __future__ import annotations

from pathlib import Path

FILE = "report.html"
MARK = b'<meta name="generator" content="mobilevd report">'
"""In the head of every report."""


def is_html_report(file: Path) -> bool:
    """True for a report that `mobilevd.report.page` wrote."""
    with file.open("rb") as opened:
        return MARK in opened.read(4096)
