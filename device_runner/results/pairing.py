"""Pairs of measurements of two reports that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from device_runner.errors import RunnerError
from device_runner.results.wording import bundle_title, device_title, measurement_title

Measured = Mapping[str, Any]
"""A measurement of a report."""

HOST_FACTS = ("cpu", "logical_cores", "usable_cores")
"""Facts that identify a machine: every host is called `host`, clones of a virtual machine have the same name, and other
work in a container may take cores away."""
_ANY = ""


class Key(NamedTuple):
    """A measurement's subject and device. A model's bundles of several targets and precisions share a name."""

    bundle: str
    target: str
    precision: str
    program: str
    device: str

    @property
    def subject(self) -> tuple[str, ...]:
        """All fields but the device."""
        return self[:-1]


def pair_up(
    a: Mapping[str, Any], b: Mapping[str, Any], allow_different_devices: bool = False
) -> tuple[list[tuple[Measured, Measured]], list[Measured], list[Measured]]:
    """Pairs of equal bundle, target, precision, program and device, and the measurements that only `a` or `b` has.

    If each report has one bundle only, the bundles' names, targets and precisions may differ: this compares two
    variants. With `allow_different_devices`, remaining measurements of a program are paired if each side has one device
    of it.

    Raises `RunnerError` if there is no pair, or if a report has a key twice.
    """
    one_bundle = all(len({_key(each)[:3] for each in report["measurements"]}) == 1 for report in (a, b))
    by_key_a, by_key_b = _by_key(a, "first", one_bundle), _by_key(b, "second", one_bundle)
    pairs = [(by_key_a.pop(key), by_key_b.pop(key)) for key in list(by_key_a) if key in by_key_b]
    if allow_different_devices:
        pairs += _across_devices(by_key_a, by_key_b)
    if not pairs:
        raise RunnerError(_nothing_common(by_key_a, by_key_b, allow_different_devices))
    return pairs, list(by_key_a.values()), list(by_key_b.values())


def title(measurement: Measured) -> str:
    """A measurement's title: `unet of tiny (executorch-xnnpack, fp32) on host`."""
    return f"{measurement_title(measurement)} on {measurement['device']['name']}"


def device_identity(device: Mapping[str, Any]) -> str:
    """A readable text that is equal for one device: `host (vm; cpu AMD EPYC, logical_cores 2, usable_cores 2)`."""
    if device["kind"] != "host":
        return device_title(device)
    facts = ", ".join(f"{name} {device.get(name)}" for name in HOST_FACTS)
    return f"{device['name']} ({device.get('model') or 'no name'}; {facts})"


def _key(measurement: Measured, any_bundle: bool = False) -> Key:
    bundle = measurement["bundle"]
    identity = (_ANY, _ANY, _ANY) if any_bundle else (bundle["name"], bundle["target"], bundle["precision"])
    return Key(*identity, measurement["program"], device_identity(measurement["device"]))


def _by_key(report: Mapping[str, Any], which: str, one_bundle: bool) -> dict[Key, Measured]:
    found: dict[Key, tuple[int, Measured]] = {}
    for index, measurement in enumerate(report["measurements"]):
        key = _key(measurement, one_bundle)
        if key in found:
            places = f"measurements[{found[key][0]}] and measurements[{index}]"
            builds = [each["bundle"]["sha256"][:12] for each in (found[key][1], measurement)]
            told = f"both of bundle {builds[0]}" if builds[0] == builds[1] else f"of bundles {' and '.join(builds)}"
            raise RunnerError(
                f"the {which} file has {title(measurement)} twice: {places}, {told}; compare files that have it once"
            )
        found[key] = (index, measurement)
    return {key: measurement for key, (_, measurement) in found.items()}


def _across_devices(a: dict[Key, Measured], b: dict[Key, Measured]) -> list[tuple[Measured, Measured]]:
    pairs = []
    for key in list(a):
        alike_a, alike_b = ([other for other in side if other.subject == key.subject] for side in (a, b))
        if len(alike_a) == len(alike_b) == 1:
            pairs.append((a.pop(key), b.pop(alike_b[0])))
    return pairs


def _nothing_common(a: Mapping[Key, Measured], b: Mapping[Key, Measured], allowed: bool) -> str:
    def names(left: Mapping[Key, Measured]) -> str:
        told = (f"{each['program']} of {bundle_title(each['bundle'])}" for each in left.values())
        return ", ".join(dict.fromkeys(told)) or "no measurement"

    if {key.subject for key in a} & {key.subject for key in b}:
        devices = [", ".join(sorted({key.device for key in side})) for side in (a, b)]
        told = f"the devices differ: {devices[0]} in the first file, {devices[1]} in the second"
        if allowed:
            return f"{told}; across devices, each program must be on one device in either file"
        return f"{told}; measure both on one device, or compare them all the same with --different-devices"
    return f"the files have nothing in common: the first has {names(a)}, the second {names(b)}"
