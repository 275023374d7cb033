"""The rules for comparing two measurements: when they must not be compared, and what a reader must know if they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from device_runner.errors import RunnerError
from device_runner.protocol.correlation import effective_samples
from device_runner.results.pairing import Measured, device_identity, title
from device_runner.results.wording import measurement_title

IRRELEVANT_SETTINGS = {"name", "timeout_s", "gate_timeout_s"}
"""Settings of the protocol that change no sample."""
LATER_SETTINGS = {"weight_cache": "off"}
"""Settings that older results do not have, with the value that they were measured at."""
WORTH_A_REMARK = 0.4
"""Share of independent samples below which a remark is made: neighbours then correlate by 0.4 and more."""
LEAST_FOR_CORRELATION = 10
DEVICE_FACTS = ("cpu", "logical_cores", "usable_cores", "system", "kernel", "fingerprint")
"""Facts whose differences are noted; an update of the system changes the last three, and may change every latency."""


def check_comparable(a: Measured, b: Measured) -> None:
    """Raise `RunnerError` with the reason and the remedy if the figures of a pair may not be compared."""
    for side, each in (("first", a), ("second", b)):
        what = f"{title(each)} in the {side} file"
        if each["emulated"] or each["device"]["platform"]["emulated"]:
            raise RunnerError(f"{what} was emulated: its times are no latencies; measure on a real processor")
        if not each["samples_ms"]:
            raise RunnerError(
                f"{what} has an average only ({each['runner']['name']} tells no samples), which says nothing of noise; "
                "measure with a runner that tells samples"
            )
        if min(each["samples_ms"]) <= 0:
            raise RunnerError(f"{what} has a sample of 0 ms: the runner's clock is too coarse to compare")
    what = measurement_title(a)
    for name, one, other in (
        ("method", a["method"], b["method"]),
        ("runner", a["runner"]["name"], b["runner"]["name"]),
        ("figure", a["figure"]["name"], b["figure"]["name"]),
    ):
        if one != other:
            raise RunnerError(f"{what}: {name} {one} in the first file, {other} in the second; measure both alike")
    settings = sorted((set(a["protocol"]) | set(b["protocol"])) - IRRELEVANT_SETTINGS)
    missing = object()
    differing = [key for key in settings if _setting(a, key, missing) != _setting(b, key, missing)]
    if differing:
        told = ", ".join(f"{key} {a['protocol'].get(key)} and {b['protocol'].get(key)}" for key in differing)
        raise RunnerError(f"{what}: the protocols differ in {told}; measure both with one protocol")
    if _one_device(a, b) and (cores := _affinities(a, b)):
        raise RunnerError(
            f"{what} ran on the cores {cores[0]} in the first file, {cores[1]} in the second; measure both on the same"
        )


def _setting(measurement: Measured, key: str, missing: object) -> Any:
    value = measurement["protocol"].get(key, LATER_SETTINGS.get(key, missing))
    return _mask(value) if key == "cpu_mask" and isinstance(value, str) else value


def _mask(text: str) -> str:
    """A mask of cores in the spelling of `taskset`: `0F0` becomes `f0`."""
    return text.lower().lstrip("0") or "0"


def _one_device(a: Measured, b: Measured) -> bool:
    return device_identity(a["device"]) == device_identity(b["device"])


def _affinities(a: Measured, b: Measured) -> tuple[str, str] | None:
    """The cores that each side ran on, if both runners report them and they differ; else None."""
    one, other = (_mask(each["runner"]["affinity"]) if each["runner"].get("affinity") else "" for each in (a, b))
    return (one, other) if one and other and one != other else None


def remarks(a: Measured, b: Measured) -> Iterator[str]:
    """Everything a reader must know before trusting the outcome: warnings of either side, and their differences."""
    for side, each in (("A", a), ("B", b)):
        for warning in each["warnings"]:
            yield f"{side}: {warning}"
        n, worth = len(each["samples_ms"]), effective_samples(each["samples_ms"])
        if n >= LEAST_FOR_CORRELATION and worth < n * WORTH_A_REMARK:
            yield f"{side}: neighbouring samples are alike: the {n} are worth {worth:.0f} independent ones"
    for key in ("governors", "charging"):
        one, other = _told(a["state_before"].get(key)), _told(b["state_before"].get(key))
        if one and other and one != other:
            yield f"{key} differ: {one} in A, {other} in B"
    for key in ("target", "precision"):
        if (one := a["bundle"][key]) != (other := b["bundle"][key]):
            yield f"{key}s differ: {one} in A, {other} in B"
    yield from _builds(a, b)
    facts = [{key: device.get(key) for key in DEVICE_FACTS} for device in (a["device"], b["device"])]
    yield from _differences("", *facts)


def _builds(a: Measured, b: Measured) -> Iterator[str]:
    """Differences of runner form, cores, versions and tools; two devices have them anyway, so none is an error."""
    one, other = (each["runner"].get("form") for each in (a, b))
    if one and other and one != other:
        yield f"runner built for {one} in A, {other} in B"
    if cores := _affinities(a, b):
        yield f"ran on cores {cores[0]} in A, {cores[1]} in B"
    yield from _differences("", *({**each["versions"], **each["runner"]["versions"]} for each in (a, b)))
    yield from _differences("bundle's ", *(each["bundle"].get("tools", {}) for each in (a, b)))


def _differences(prefix: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """Differences of two sets of facts; a version that only one side knows is a difference too."""
    for name in [*a, *(name for name in b if name not in a)]:
        if (one := _told(a.get(name))) != (other := _told(b.get(name))):
            yield f"{prefix}{name} {one or 'unknown'} in A, {other or 'unknown'} in B"


def _told(value: Any) -> str:
    """A value as text, for a list its distinct entries; empty if the device does not report it."""
    if isinstance(value, list):
        return ", ".join(sorted({str(entry) for entry in value if entry is not None}))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
