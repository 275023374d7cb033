"""The present state of a device: temperatures, frequencies, battery, load; before, after, and while a program runs.

Sampling must not disturb the program: values come from files that the shell itself reads, and two short calls of
`dumpsys` (some 10 ms of another process each).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from device_runner.devices.adb.sections import batch, sections

CPU = "/sys/devices/system/cpu"
BATTERY = "/sys/class/power_supply/battery"
# Types of android.os.Temperature: CPU, GPU, battery, skin, USB port, power amplifier, NPU, TPU, display, modem, SoC,
# Wi-Fi, camera, flashlight, speaker, ambient, pogo. The others are volts (6), milliamperes (7), percent (8), or of a
# kind known to the maker alone (-1: differences, duty cycles), although each is called a Temperature.
TEMPERATURE_TYPES = frozenset({0, 1, 2, 3, 4, 5, *range(9, 20)})
PLAUSIBLE_C = (-40.0, 150.0)
"""Range of plausible temperatures; readings outside it mark absent sensors (-99.9, -273, 2147483.6)."""
CHARGING, FULL = 2, 5
"""Values of BatteryManager.BATTERY_STATUS_*; 3 is discharging, 4 not charging, 1 unknown."""


def _value_of(file: str) -> str:
    """Shell text that puts a file's first line into `mv_v` without starting a process."""
    return f'mv_v=; {{ read -r mv_v < "{file}"; }} 2>/dev/null || :'


def _per_core(name: str, file: str) -> str:
    """Shell text that appends `name=0:VALUE,1:VALUE` to the line in `mv_l`."""
    return f"""mv_l="${{mv_l}}{name}="
for mv_f in {CPU}/cpu[0-9]*/cpufreq; do
{_value_of("$mv_f/" + file)}
mv_c="${{mv_f%/cpufreq}}"; mv_l="$mv_l${{mv_c##*/cpu}}:$mv_v,"
done
mv_l="$mv_l$mv_t\""""


_ZONES = f"""mv_l="${{mv_l}}zones="
for mv_f in /sys/class/thermal/thermal_zone*; do
{_value_of("$mv_f/type")}; mv_n="$mv_v"
{_value_of("$mv_f/temp")}; mv_l="$mv_l$mv_n:$mv_v,"
done
mv_l="$mv_l$mv_t\""""

_SAMPLER = f"""mv_t="$(printf '\\t')"; mv_l=
{_value_of("/proc/uptime")}; mv_l="uptime=${{mv_v%% *}}$mv_t"
{_per_core("now", "scaling_cur_freq")}
{_per_core("max", "scaling_max_freq")}
mv_h=
if command -v dumpsys >/dev/null 2>&1; then
mv_h="$(dumpsys thermalservice 2>/dev/null | sed -n -e '/^Thermal Status/p' \
-e '/^Current temperatures from HAL/,/^Current cooling/p' | tr '\\t\\r\\n' '   ')"
mv_b="$(dumpsys battery 2>/dev/null | sed -n -e '/^ *temperature:/p' | tr '\\t\\r\\n' '   ')"
mv_l="${{mv_l}}thermal=$mv_h${{mv_t}}battery=$mv_b$mv_t"
else
{_value_of(BATTERY + "/temp")}; mv_l="${{mv_l}}battery_sysfs=$mv_v$mv_t"
fi
case "$mv_h" in *Temperature*) ;; *)
{_ZONES}
;; esac
printf '%s\\n' "${{mv_l}}end"
"""

STATE_COMMANDS = {
    "sample": _SAMPLER,
    "governors": f"cat {CPU}/cpu[0-9]*/cpufreq/scaling_governor",
    "load": "cat /proc/loadavg || uptime",
    "meminfo": "cat /proc/meminfo",
    "battery": "dumpsys battery",
    "power": "dumpsys power | grep -i '^ *[a-z()]*wakefulness[a-z()]*='",
    "saver": "settings get global low_power",
    "capacity": f"cat {BATTERY}/capacity",
    "charging": f"cat {BATTERY}/status",
}


def sampler_script() -> str:
    """POSIX shell commands (mksh, dash, busybox) that print one line of raw readings, for `parse_series`.

    They may run any number of times: they leave nothing but variables whose names begin with `mv_`.
    """
    return _SAMPLER


def parse_series(text: str) -> list[dict[str, Any]]:
    """The samples in a log of the `sampler_script`, each like a state, with `uptime_s` (seconds since the start).

    Lines that were cut off or that lack the time are left out.
    """
    lines = [line for line in text.replace("\r", "").split("\n") if line.endswith("\tend")]
    samples = [_parse_sample(line) for line in lines]
    return [sample for sample in samples if sample["uptime_s"] is not None]


def read_state(shell: Callable[[str], str]) -> dict[str, Any]:
    """The device's state; values that it does not report are None or empty. One round trip."""
    told = sections(shell(batch(STATE_COMMANDS)))
    sample = next((line for line in told.get("sample", "").split("\n") if line.endswith("\tend")), "")
    battery = "" if re.search(r"(?m)^\s+present: false", told.get("battery", "")) else told.get("battery", "")
    state = _parse_sample(sample)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **state,
        "load_average": _load_average(told.get("load", "")),
        "governors": re.findall(r"(?m)^([a-z_]+)\s*$", told.get("governors", "")),
        "battery_percent": _battery_percent(battery, told.get("capacity", "")),
        "charging": _charging(battery, told.get("charging", "")),
        "awake": _awake(told.get("power", "")),
        "battery_saver": {"0": False, "1": True}.get(told.get("saver", "").strip()),
        "memory_available_bytes": _kilobytes(told.get("meminfo", ""), "MemAvailable"),
    }


def _parse_sample(line: str) -> dict[str, Any]:
    parts = {name: value for name, _, value in (part.partition("=") for part in line.split("\t"))}
    thermal = parts.get("thermal", "")
    status = re.search(r"Thermal Status: (\d)(?!\d)", thermal)
    return {
        "uptime_s": _number(parts.get("uptime", "")),
        "frequencies_khz": _core_values(parts.get("now", "")),
        "max_frequencies_khz": _core_values(parts.get("max", "")),
        "thermal_status": int(status[1]) if status and int(status[1]) <= 6 else None,
        "temperatures_c": _service_temperatures(thermal) or _zone_temperatures(parts.get("zones", "")),
        "battery_c": _battery_c(parts),
    }


def _service_temperatures(text: str) -> dict[str, float]:
    """The temperatures that the thermal service has just read from the hardware, not those it has cached."""
    _, _, current = text.partition("Current temperatures from HAL")
    current = current.partition("Current cooling")[0]
    found = re.findall(r"Temperature\{mValue=([^,}]+), mType=(-?\d+), mName=([^,}]+), mStatus=-?\d+\}", current)
    readings = [(name.strip(), _celsius(value)) for value, kind, name in found if int(kind) in TEMPERATURE_TYPES]
    return {name: value for name, value in readings if value is not None}


def _zone_temperatures(text: str) -> dict[str, float]:
    temperatures: dict[str, float] = {}
    for zone, (name, value) in enumerate(re.findall(r"([^,:]+):(-?\d*),", text)):
        celsius = _celsius(value)
        # The kernel's unit is a thousandth of a degree; some old phones' drivers give whole degrees.
        if abs(_number(value) or 0) >= 1000:
            celsius = _celsius(str(int(value) / 1000))
        if celsius is not None:
            temperatures[f"{name}.{zone}" if name in temperatures else name] = celsius
    return temperatures


def _celsius(text: str) -> float | None:
    """A plausible temperature, else None; absent sensors read exactly 0."""
    value = _number(text)
    if value is None or value == 0 or not PLAUSIBLE_C[0] <= value <= PLAUSIBLE_C[1]:
        return None
    return round(value, 2)


def _battery_c(parts: dict[str, str]) -> float | None:
    """The battery's temperature; Android's service and the kernel's file both give tenths of a degree."""
    match = re.search(r"(?:^|\s)temperature: (-?\d+)(?:\s|$)", parts.get("battery", ""))
    tenths = match[1] if match else parts.get("battery_sysfs", "").strip()
    return _celsius(str(int(tenths) / 10)) if re.fullmatch(r"-?\d{1,4}", tenths) else None


def _battery_percent(battery: str, capacity: str) -> float | None:
    level, scale = _field(battery, "level"), _field(battery, "scale") or 100
    if level is not None:
        percent = 100 * level / scale
    else:
        percent = _number(capacity)
    return percent if percent is not None and 0 <= percent <= 100 else None


def _charging(battery: str, status: str) -> bool | None:
    """True if the battery takes current, or would if it were not full: both warm the phone. None if not known."""
    code = _field(battery, "status")
    if code is not None:
        # Phones without a battery report 1, "unknown".
        return None if code == 1 else code in (CHARGING, FULL)
    return {"Charging": True, "Full": True, "Discharging": False, "Not charging": False}.get(status.strip())


def _awake(power: str) -> bool | None:
    """True if the screen is in use (for Android also by a screen saver); some makers print the call, not the field."""
    match = re.search(r"(?m)^\s*(?:mWakefulness|get(?:Global)?WakefulnessLocked\(\))=(\w+)\s*$", power)
    return {"Awake": True, "Dreaming": True, "Dozing": False, "Asleep": False}.get(match[1]) if match else None


def _field(battery: str, key: str) -> int | None:
    match = re.search(rf"(?m)^\s+{key}: (\d+)\s*$", battery)
    return int(match[1]) if match else None


def _load_average(text: str) -> list[float]:
    """The load average from /proc/loadavg, or from the output of `uptime` where that is not readable."""
    match = re.match(r"\s*(\d+\.\d+) (\d+\.\d+) (\d+\.\d+) \d+/\d+ \d+", text)
    match = match or re.search(r"load averages?: (\d+\.\d+),? (\d+\.\d+),? (\d+\.\d+)", text)
    return [float(value) for value in match.groups()] if match else []


def _core_values(text: str) -> list[int]:
    """Values of the cores that report one, in the order of their numbers."""
    found = re.findall(r"(\d+):(\d+),", text)
    return [int(value) for _, value in sorted(found, key=lambda pair: int(pair[0]))]


def _kilobytes(meminfo: str, key: str) -> int | None:
    match = re.search(rf"(?m)^{key}:\s+(\d+) kB\s*$", meminfo)
    return int(match[1]) * 1024 if match else None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*-?\d{1,12}(\.\d+)?(E-?\d+)?\s*", text) else None
