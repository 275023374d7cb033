"""A report at a glance: measurements whose figures may be compared, together, and warnings gathered by their cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from device_runner.results.wording import device_title, protocol_title

Measured = Mapping[str, Any]


class Group(NamedTuple):
    """Measurements of one device under one protocol and by one runner; what they share is told above their table."""

    device: str
    protocol: str
    """The protocol's title and the runner's name."""
    figure: str | None
    """Name of the figure that represents each measurement; None for an emulated processor."""
    indices: list[int]
    """Places of the measurements in the report."""


def groups_of(measurements: Sequence[Measured]) -> list[Group]:
    """Groups in the order in which their first measurement was made."""
    found: dict[tuple[str, str, str | None], list[int]] = {}
    for index, each in enumerate(measurements):
        protocol = f"{protocol_title(each['protocol'])}, runner {each['runner']['name']}"
        figure = each["figure"]["name"] if each["figure"] else None
        found.setdefault((device_title(each["device"]), protocol, figure), []).append(index)
    return [Group(*key, indices) for key, indices in found.items()]


class Cause(NamedTuple):
    """One cause of warnings, such as `busy`, and where it was met."""

    name: str
    detail: str | None
    """What all its warnings say; None if they do not say the same."""
    met: list[tuple[int, str]]
    """Place of each measurement in the report, and what its warning says."""


def causes_of(measurements: Sequence[Measured]) -> list[Cause]:
    """The warnings by cause, the most frequent first. A warning is `cause: detail`, see `measure.warnings`."""
    found: dict[str, list[tuple[int, str]]] = {}
    for index, each in enumerate(measurements):
        for warning in each["warnings"]:
            name, _, detail = warning.partition(": ")
            found.setdefault(name, []).append((index, detail))
    causes = []
    for name, met in found.items():
        details = {detail for _, detail in met}
        causes.append(Cause(name, details.pop() if len(details) == 1 else None, met))
    return sorted(causes, key=lambda cause: -len({index for index, _ in cause.met}))
