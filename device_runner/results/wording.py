"""The wording of results wherever they are shown: numbers with a sensible number of digits, names of devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTHING = "–"
EMULATED = "emulated: outputs right, no latency"


def one_line(text: str) -> str:
    """Text from files and devices in one line, without characters that move a terminal's cursor or forge a line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def milliseconds(value: float | None) -> str:
    """A time with three significant digits, whole from 1000 on: more is noise on any device."""
    return NOTHING if value is None else significant(value)


def significant(value: float) -> str:
    """Three significant digits without an exponent; thousands and more are rounded to whole numbers."""
    if abs(value) >= 999.5:
        return f"{value:.0f}"
    if abs(value) < 0.001:
        return "0" if value == 0 else f"{value:.1g}"
    return f"{value:#.3g}".rstrip(".")


def percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.1f} %"


def interval(low: float | None, high: float | None) -> str:
    """An interval of a ratio, `0.98-1.04`."""
    return NOTHING if low is None or high is None else f"{low:.2f}-{high:.2f}"


def mebibytes(value: float | None) -> str:
    return NOTHING if value is None else significant(value / 2**20)


def celsius(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f} °C"


def device_title(device: Mapping[str, Any]) -> str:
    """A device's name and kind: `adb:R58M123 (Pixel 8 Pro, Tensor G3)`."""
    facts = [str(device[key]) for key in ("model", "soc") if device.get(key)] or [str(device.get("cpu") or "")]
    known = ", ".join(fact for fact in facts if fact)
    return f"{device['name']} ({known})" if known else device["name"]


def protocol_title(protocol: Mapping[str, Any]) -> str:
    """A protocol's name and main settings: `protocol thorough, 2 threads, cores f0`."""
    parts = [f"protocol {protocol['name']}"]
    if threads := protocol.get("threads"):
        parts.append(f"{threads} thread{'' if threads == 1 else 's'}")
    if protocol.get("cpu_mask"):
        parts.append(f"cores {protocol['cpu_mask']}")
    return ", ".join(parts)


def bundle_title(bundle: Mapping[str, Any]) -> str:
    """A bundle's title, `tiny (executorch-xnnpack, int8-dynamic)`: the name alone is shared by a model's bundles."""
    return f"{bundle['name']} ({bundle['target']}, {bundle['precision']})"


def measurement_title(measurement: Mapping[str, Any]) -> str:
    """A program's title: `unet of tiny (executorch-xnnpack, int8-dynamic)`."""
    return f"{measurement['program']} of {bundle_title(measurement['bundle'])}"


def figure_title(measurement: Mapping[str, Any]) -> str:
    """The main figure, `p50 42.1 ms`, or a text that there is none."""
    figure = measurement["figure"]
    return EMULATED if figure is None else f"{figure['name']} {milliseconds(figure['ms'])} ms"


def sustained_title(sustained: Mapping[str, Any]) -> str:
    """The first minute against the last, and the time from which the device was throttled."""
    text = (
        f"first minute {milliseconds(sustained['first_minute_ms'])} ms, last minute "
        f"{milliseconds(sustained['last_minute_ms'])} ms ({sustained['ratio']:.2f} times)"
    )
    since = sustained["throttled_after_s"]
    return text if since is None else f"{text}; throttled after {since:.0f} s"


def clip_title(clip: Mapping[str, Any]) -> str:
    """A clip's title: `tiny (executorch-xnnpack, fp32) on host: 14 frames at 7 fps, sum of p50`, as far as known."""
    build = ", ".join(clip[key] for key in ("target", "precision") if clip.get(key))
    return f"{clip['bundle']}{f' ({build})' if build else ''} on {clip['device']}: {clip_contents(clip)}"


def clip_contents(clip: Mapping[str, Any]) -> str:
    """A clip's content: `14 frames at 7 fps, sum of p50`."""
    parts = [f"{clip['frames']} frames" if clip["frames"] is not None else "one clip"]
    if clip["fps"] is not None:
        parts[0] += f" at {clip['fps']:g} fps"
    return ", ".join([*parts, f"sum of {clip['figure']}"] if clip.get("figure") else parts)
