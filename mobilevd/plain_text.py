"""Text from files, names and devices, made harmless for whatever shows it."""

from __future__ import annotations

import re
from typing import Any


def visible(text: str) -> str:
    """Text with line ends as they are, and a blank for every other character that shows nothing.

    Escape sequences of terminals begin with such a character, and so does what turns the direction of writing.
    """
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def one_line(text: str) -> str:
    """`visible` text in one line."""
    return " ".join(visible(text).split())


def markdown_text(text: Any) -> str:
    """Text as it is, in one line of Markdown: no table cell, link, picture, HTML or emphasis begins or ends in it."""
    escaped = re.sub(r"([\\`*_|~\[\]])", r"\\\1", one_line(str(text)))
    for character, reference in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("://", "&#58;//"),
        ("www.", "www&#46;"),
    ):
        escaped = escaped.replace(character, reference)
    return escaped
