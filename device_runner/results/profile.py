"""Where a program's time goes: rows of bars by block, by part of blocks and by operator, for the page to draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

TOP = 8
"""Bars of a panel; the others are one more."""
_PANELS = {"block": "By block", "part": "By part of blocks", "operator": "By operator"}


class ProfileBar(NamedTuple):
    """Time of all operators of one name."""

    name: str
    ms: float
    share: float
    """Of the whole traced evaluation."""
    width: float
    """Percent of the panel's width, which the longest bar fills."""
    rest: bool
    """Not one of its kind: what is left."""


class ProfilePanel(NamedTuple):
    """One way to cut the whole time: its bars add up to it."""

    title: str
    bars: list[ProfileBar]


def profile_panels(profile: Mapping[str, Any]) -> list[ProfilePanel]:
    """Those that the profile can tell; one part only (a program that is no UNet) says nothing."""
    return [
        ProfilePanel(told, _bars(rows, key, profile))
        for key, told in _PANELS.items()
        if len(rows := profile[f"by_{key}"] or []) > (key == "part")
    ]


def _bars(rows: Sequence[Mapping[str, Any]], key: str, profile: Mapping[str, Any]) -> list[ProfileBar]:
    named = [(row[key], row["ms"], False) for row in sorted(rows, key=lambda row: -row["ms"])[:TOP]]
    named += _rests(sum(ms for _, ms, _ in named), key, profile)
    longest = max(ms for _, ms, _ in named) or 1.0
    total = profile["total_ms"] or 1.0
    return [ProfileBar(name, ms, ms / total, round(100 * ms / longest, 2), rest) for name, ms, rest in named]


def _rests(shown_ms: float, key: str, profile: Mapping[str, Any]) -> Iterator[tuple[str, float, bool]]:
    """What the bars do not show: other rows, of which a file may list some only, and what is in no operator's time."""
    outside_ms = max(profile["unaccounted_ms"], 0.0)
    others_ms = profile["total_ms"] - shown_ms - outside_ms
    for name, ms in ((f"other {key}s", others_ms), ("in no operator's time", outside_ms)):
        if ms > profile["total_ms"] / 1000:  # less is what rounding leaves
            yield name, ms, True
