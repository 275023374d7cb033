"""A line of `mobilevd doctor`: what was looked for, what was found, and what its lack costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        name: what was looked for.
        found: what was found, and where; or where it was looked for.
        usable: None for information only, and for what is lacking and not needed by every run.
        cost: what cannot be done for want of it, and how to mend that; empty if nothing is wanting.
    """

    name: str
    found: str
    usable: bool | None = None
    cost: str = ""


def looked_for(name: str, find: Callable[[], object], cost: str, needed: bool = False) -> Finding:
    """What `find` returns; or the reason that its error gives, with what the lack costs.

    Args:
        needed: a run needs it, wherever it is.
    """
    try:
        return Finding(name, str(find()), usable=True)
    except Exception as error:  # whatever it is, it is the finding
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding(name, reason, usable=False if needed else None, cost=cost)
