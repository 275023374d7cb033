"""Short names for measurements beside a table: as much as distinguishes one from the others that are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Named(NamedTuple):
    """What a measurement, or a pair of them, is of."""

    program: str
    bundle: str
    device: str


def numbered(bundles: Iterable[str]) -> dict[str, str]:
    """Marks of bundles, `(1)`, that stand for their long titles; empty if there is a single one."""
    different = list(dict.fromkeys(bundles))
    return {bundle: f"({number})" if len(different) > 1 else "" for number, bundle in enumerate(different, start=1)}


def remarks_by_text(remarks: Iterable[tuple[Named, str]], shown: Sequence[Named]) -> Mapping[str, str]:
    """Each remark once, with the short names before it of all that it is about: `unet, decoder (2): `."""
    found: dict[str, list[Named]] = {}
    for about, text in remarks:
        found.setdefault(text, []).append(about)
    return {text: _names(about, shown) for text, about in found.items()}


def _names(about: Sequence[Named], shown: Sequence[Named]) -> str:
    if len(about) >= len(shown):
        return "all: " if len(shown) > 1 else ""
    if len(whole := _whole_places(about, shown)) > 0:
        return f"all {', all '.join(whole)}: "
    names: list[str] = []
    for program in dict.fromkeys(each.program for each in about):
        with_it = [each for each in about if each.program == program]
        if len(with_it) == sum(each.program == program for each in shown):
            names.append(program)
        else:
            names += [f"{program} {_place(each, shown)}" for each in with_it]
    return f"{', '.join(dict.fromkeys(names))}: "


def _whole_places(about: Sequence[Named], shown: Sequence[Named]) -> list[str]:
    """Places, of a bundle on a device, if all of several programs there are meant, and none of another place."""
    places: list[str] = []
    for place in dict.fromkeys(each[1:] for each in about):
        meant, there = (sum(each[1:] == place for each in some) for some in (about, shown))
        if meant < there or there < 2:
            return []
        places.append(_place(Named("", *place), shown))
    return places


def _place(named: Named, shown: Sequence[Named]) -> str:
    mark = numbered(each.bundle for each in shown)[named.bundle]
    device = f"on {named.device}" if len({each.device for each in shown}) > 1 else ""
    return " ".join(part for part in (mark, device) if part)
