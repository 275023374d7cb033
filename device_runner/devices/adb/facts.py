"""Facts that a device on adb reports about itself: its fixed properties (here) and its present state (`state`).

No fact is taken for granted: one that a device does not report is left out, and so is text where a number should be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from device_runner.devices.adb.sections import batch, sections
from device_runner.devices.job import Platform

Shell = Callable[[str], str]
"""Function that runs one command string on the device and returns its output."""

ABI_OF_MACHINE = {
    "aarch64": "arm64-v8a",
    "arm64": "arm64-v8a",
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "i686": "x86",
    "i386": "x86",
    # A 64-bit kernel under a 32-bit process says armv8l.
    "armv8l": "armeabi-v7a",
    "armv7l": "armeabi-v7a",
}

FACT_COMMANDS = {
    "props": "getprop",
    "uname": "uname -m; uname -r",
    "release": "cat /etc/os-release",
    # The longest cpuinfo seen is 40 kB (many cores, long lists of flags).
    "cpuinfo": "cat /proc/cpuinfo",
    "meminfo": "cat /proc/meminfo",
    "cores": "for f in /sys/devices/system/cpu/cpu[0-9]*; do v=; "
    '{ read -r v < "$f/cpufreq/cpuinfo_max_freq"; } 2>/dev/null; echo "${f##*/cpu} $v"; done',
    "online": "cat /sys/devices/system/cpu/online",
    "board": "tr '\\0' '\\n' < /sys/firmware/devicetree/base/model",
}
PLATFORM_COMMANDS = {
    "props": "getprop",
    "uname": "uname -m",
    "cpuinfo": "cat /proc/cpuinfo",
    # Since Linux 6.1: the kernel's own answer, which user-mode emulation passes on unchanged.
    "kernel_arch": "cat /proc/sys/kernel/arch",
    # The shell's program, as another process reads it: user-mode emulation hides from a process that reads its own.
    "shell_exe": "readlink /proc/$$/exe",
}
IDENTITY_COMMANDS = {
    "serial": "getprop ro.serialno",
    "boot_serial": "getprop ro.boot.serialno",
    "boot": "cat /proc/sys/kernel/random/boot_id",
}


def describe(shell: Shell) -> dict[str, Any]:
    """Facts that stay the same during a measurement: maker, model, chip, system, cores, memory. One round trip."""
    told = sections(shell(batch(FACT_COMMANDS)))
    props = properties(told.get("props", ""))
    release = _assignments(told.get("release", ""))
    machine, _, kernel = told.get("uname", "").partition("\n")
    max_khz = _max_frequencies(told.get("cores", ""))
    facts: dict[str, Any] = {
        "manufacturer": _first(props, "ro.product.manufacturer", "ro.product.vendor.manufacturer"),
        "model": _first(props, "ro.product.model", "ro.product.vendor.model") or _one_line(told.get("board", "")),
        "device": _first(props, "ro.product.device", "ro.product.vendor.device"),
        "soc": _soc(props),
        "abis": _abis(props, machine.strip()),
        "system": _system(props, release),
        "sdk": _whole(props.get("ro.build.version.sdk", "")),
        "security_patch": props.get("ro.build.version.security_patch"),
        "fingerprint": _first(props, "ro.build.fingerprint", "ro.vendor.build.fingerprint"),
        "kernel": _one_line(kernel),
        "architecture": _one_line(machine),
        "cpu": _cpu(told.get("cpuinfo", ""), max_khz),
        "logical_cores": len(max_khz) or len(re.findall(r"(?m)^processor\s*:\s*\d+\s*$", told.get("cpuinfo", ""))),
        "online_cores": _one_line(told.get("online", "")),
        "clusters": _clusters(max_khz),
        "memory_bytes": memory_bytes(told.get("meminfo", ""), "MemTotal"),
    }
    return {key: value for key, value in facts.items() if value not in (None, "", 0, [])}


def platform(shell: Shell) -> Platform:
    """The device's platform, and whether its processor is emulated. One round trip."""
    told = sections(shell(batch(PLATFORM_COMMANDS)))
    props = properties(told.get("props", ""))
    machine = told.get("uname", "").strip()
    abis = _abis(props, machine)
    system = "android" if _whole(props.get("ro.build.version.sdk", "")) is not None else "linux"
    abi = abis[0] if abis else machine if re.fullmatch(r"\w+", machine) else "unknown"
    return Platform(system, abi, _emulated(props, machine, told) or _translated(abi, machine))


def identity(shell: Shell) -> str | None:
    """What tells this device from all others while it is up, by whatever connection it is asked.

    Its serial number and the number of this boot; None if it does not tell both: emulators of one kind share a serial
    number, and containers of one machine its boot. One round trip.
    """
    told = sections(shell(batch(IDENTITY_COMMANDS)))
    serial = _one_line(told.get("serial", "")) or _one_line(told.get("boot_serial", ""))
    boot = _one_line(told.get("boot", "")) or ""
    return f"{serial} {boot}" if serial and serial != "unknown" and re.fullmatch(r"[0-9a-f-]{36}", boot) else None


def properties(text: str) -> dict[str, str]:
    """Properties from Android's `getprop`, lines `[key]: [value]`; a value may span lines, empty ones are left out."""
    found = re.findall(r"(?ms)^\[([\w.@:\-]+)\]: \[(.*?)\]\s*$", text)
    return {key: " ".join(value.split()) for key, value in found if value.strip()}


def memory_bytes(meminfo: str, key: str) -> int | None:
    """The value of a key in /proc/meminfo, in bytes; None if it is missing."""
    match = re.search(rf"(?m)^{key}:\s+(\d+) kB\s*$", meminfo)
    return int(match[1]) * 1024 if match else None


def _emulated(props: Mapping[str, str], machine: str, told: Mapping[str, str]) -> str | None:
    hardware = props.get("ro.hardware", "")
    for key in ("ro.kernel.qemu", "ro.boot.qemu"):
        if props.get(key) == "1":
            return f"Android emulator ({key} is 1)"
    # ranchu and goldfish are the SDK's emulator; cutf is Cuttlefish.
    if hardware in ("ranchu", "goldfish") or hardware.startswith("cutf"):
        return f"Android emulator (ro.hardware is {hardware})"
    exe = _one_line(told.get("shell_exe", "")) or ""
    name = exe.rpartition("/")[2]
    if name.startswith("qemu-") or name.endswith(("-binfmt", "-binfmt-P")):
        return f"qemu user-mode emulation (the shell is run by {exe})"
    family, kernel = _family(machine), _one_line(told.get("kernel_arch", "")) or ""
    if family and _family(kernel) and _family(kernel) != family:
        return f"qemu user-mode emulation (programs see {machine}, the kernel runs on {kernel})"
    cpuinfo = told.get("cpuinfo", "")
    of_cpu = "arm" if re.search(r"(?m)^CPU implementer\s*:", cpuinfo) else ""
    of_cpu = of_cpu or ("x86" if re.search(r"(?m)^vendor_id\s*:", cpuinfo) else "")
    if family in ("arm", "x86") and of_cpu and of_cpu != family:
        return f"qemu user-mode emulation (programs see {machine}, /proc/cpuinfo tells of an {of_cpu} processor)"
    if re.search(r"(?m)^CPU implementer\s*:\s*0x0+\s*$", cpuinfo):
        return "emulated processor (CPU implementer 0x00, which stands for software)"
    model = re.search(r"(?m)^model name\s*:\s*(.*QEMU (?:TCG|Virtual) CPU.*)$", cpuinfo)
    return f"emulated machine (its processor is called {model[1].strip()})" if model else None


def _translated(abi: str, machine: str) -> str | None:
    """Evidence that programs of the device's first ABI are translated, as by Houdini or Berberis on an x86 kernel."""
    of_abi = _family({"arm64-v8a": "aarch64", "armeabi-v7a": "armv7l", "armeabi": "arm"}.get(abi, abi))
    if machine and of_abi != _family(machine) and of_abi in ("arm", "x86") and _family(machine) in ("arm", "x86"):
        return f"translated: its programs are of {abi}, its kernel runs on {machine}"
    return None


def _family(machine: str) -> str:
    if machine.startswith(("aarch64", "arm")):
        return "arm"
    return "x86" if machine in ("x86_64", "amd64") or re.fullmatch("i[3-6]86", machine) else machine


def _abis(props: Mapping[str, str], machine: str) -> list[str]:
    listed = _first(props, "ro.product.cpu.abilist", "ro.vendor.product.cpu.abilist", "ro.product.cpu.abi")
    if listed:
        return [abi.strip() for abi in listed.split(",") if abi.strip()]
    return [ABI_OF_MACHINE[machine]] if machine in ABI_OF_MACHINE else []


def _soc(props: Mapping[str, str]) -> str | None:
    """The chip's name, which Android 12 and later give; before that, only the platform that it belongs to."""
    if model := _first(props, "ro.soc.model"):
        return " ".join(part for part in (_first(props, "ro.soc.manufacturer"), model) if part)
    return _first(props, "ro.hardware.chipname", "ro.chipname", "ro.board.platform", "ro.hardware")


def _system(props: Mapping[str, str], release: Mapping[str, str]) -> str | None:
    if version := props.get("ro.build.version.release"):
        return f"Android {version}"
    return release.get("PRETTY_NAME") or release.get("NAME")


def _cpu(cpuinfo: str, max_khz: Mapping[int, int | None]) -> str | None:
    """The processor's name; for a phone, whose cores have none, the number of cores of each speed."""
    for key in ("model name", "Hardware"):
        if match := re.search(rf"(?m)^{key}\s*:\s*(\S.*)$", cpuinfo):
            # Emulated and some older Arm kernels fill it with the architecture, which does not identify the chip.
            if not re.match("(?i)(aarch64|armv[78]) processor", match[1]):
                return match[1].strip()
    groups = [f"{len(group['cores'])} x {group['max_khz'] / 1e6:.2f} GHz" for group in _clusters(max_khz)]
    return " + ".join(groups) or None


def _max_frequencies(text: str) -> dict[int, int | None]:
    """Core -> highest frequency in kHz; None for a core that does not report it."""
    cores = re.findall(r"(?m)^(\d+) ?(\S*)\s*$", text)
    return {int(core): _whole(khz) or None for core, khz in sorted(cores, key=lambda pair: int(pair[0]))}


def _clusters(max_khz: Mapping[int, int | None]) -> list[dict[str, Any]]:
    """Groups of cores with the same highest frequency, slow ones first: little, big, prime."""
    cores: dict[int, list[int]] = {}
    for core, khz in max_khz.items():
        if khz is not None:
            cores.setdefault(khz, []).append(core)
    return [{"cores": cores[khz], "max_khz": khz} for khz in sorted(cores)]


def _assignments(text: str) -> dict[str, str]:
    """The assignments KEY=value of /etc/os-release, quoted or not."""
    return {key: value.strip("\"'") for key, value in re.findall(r"(?m)^([A-Z_]+)=(.*?)\s*$", text)}


def _first(props: Mapping[str, str], *keys: str) -> str | None:
    # Android writes "unknown" where its maker wrote nothing.
    return next((props[key] for key in keys if props.get(key) not in (None, "unknown")), None)


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,12}", text.strip()) else None


def _one_line(text: str) -> str | None:
    """The text if it is one line of sensible length, else None, so that no error message becomes a fact."""
    text = text.strip()
    broken = not text or "\n" in text or len(text) > 200 or "ermission denied" in text or "No such file" in text
    return None if broken else text
