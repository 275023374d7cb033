"""The profile of a program: rows of bars of its time by block, part of blocks and operator, for the page to draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

TOP = 8
"""Number of bars of a panel; the remaining rows are one more bar."""
_PANELS = {"block": "By block", "part": "By part of blocks", "operator": "By operator"}


class ProfileBar(NamedTuple):
    """Total time of all operators of one name."""

    name: str
    ms: float
    share: float
    """Share of the whole traced evaluation."""
    width: float
    """Width in percent of the panel's width; the longest bar fills it."""
    rest: bool
    """True for the remainder, which is not one of its kind."""


class ProfilePanel(NamedTuple):
    """One way to divide the whole time: its bars add up to it."""

    title: str
    bars: list[ProfileBar]


def profile_panels(profile: Mapping[str, Any]) -> list[ProfilePanel]:
    """The panels that the profile has data for; a single part (a program that is no UNet) gets none."""
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
    """The time outside the bars: other rows, of which a file may list only some, and time outside all operators."""
    outside_ms = max(profile["unaccounted_ms"], 0.0)
    others_ms = profile["total_ms"] - shown_ms - outside_ms
    for name, ms in ((f"other {key}s", others_ms), ("in no operator's time", outside_ms)):
        if ms > profile["total_ms"] / 1000:  # less is what rounding leaves
            yield name, ms, True
