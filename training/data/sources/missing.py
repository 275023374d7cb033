"""The message for things that should be there and are not: all told at once."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 3


def first_few(names: Sequence[object]) -> str:
    """A few of the names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more
