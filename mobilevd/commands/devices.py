"""`mobilevd devices`: lists the phones that adb knows, and cleans them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from device_runner.devices.adb.client import REMEDIES, Client
from device_runner.devices.adb.device import AdbDevice
from device_runner.devices.adb.program import find_program
from device_runner.devices.kinds import same_phones
from device_runner.errors import RunnerError
from mobilevd.plain_text import one_line
from mobilevd.terminal import TerminalConsole


def list_devices(adb: str | None, console: Console | None = None) -> None:
    """List every device that adb knows: what it is, or what it needs before it can be used."""
    console = console or TerminalConsole()
    program = find_program(adb)
    console.print(Text(f"adb {program.version}: {program.path} ({program.source})"), soft_wrap=True)
    if program.warning:
        console.print(Text(program.warning, style="yellow"), soft_wrap=True)
    listed = Client(program).devices()
    if not listed:
        console.print("no device is connected; enable USB debugging on one and connect it, or: adb connect HOST:PORT")
        return
    rows, phones = [], []
    for device in listed:
        what, system, state = device.details, "", device.state
        if device.usable:
            phone = AdbDevice.from_argument(device.serial, adb)
            phone.reconnect_s = 5  # one that went away meanwhile is not worth waiting for
            phones.append(phone)
            what, system, state = _look_at(phone)
        else:
            state = f"{device.state}: {REMEDIES[device.state]}" if device.state in REMEDIES else device.state
        rows.append((f"adb:{device.serial}", what, system, state))
    _print_rows(rows, console)
    for again, kept in same_phones(phones):
        console.print(Text(f"{again.name} is the same device as {kept.name}", style="yellow"), soft_wrap=True)


def _print_rows(rows: Sequence[tuple[str, ...]], console: Console) -> None:
    """A line per device. No table: one that does not fit would cut the serials, which are there to be copied."""
    rows = [("device", "what it is", "system", "state"), *(tuple(map(one_line, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        # What a phone reports about itself is text, never markup.
        console.print(Text(line, style="bold" if number == 0 else ""), soft_wrap=True)


def _look_at(device: AdbDevice) -> tuple[str, str, str]:
    try:
        facts, platform, state = device.describe(), device.platform(), device.state()
    except RunnerError as error:
        return "", "", str(error)
    memory = f", {facts['memory_bytes'] / 2**30:.0f} GiB" if facts.get("memory_bytes") else ""
    what = " ".join(str(facts[key]) for key in ("manufacturer", "model", "soc") if facts.get(key))
    battery = [f"battery {state['battery_percent']:g} %"] if state.get("battery_percent") is not None else []
    warm = [f"{state['battery_c']:g} C"] if state.get("battery_c") is not None else []
    emulated = [f"emulated: {platform.emulated}"] if platform.emulated else []
    return f"{what}{memory}", f"{platform.system}, {platform.abi}", ", ".join([*emulated, *battery, *warm]) or "ready"


def clean_device(serial: str, adb: str | None, console: Console | None = None) -> None:
    """Remove all of this project's files from a device; `RunnerError` if a measurement runs there."""
    AdbDevice.from_argument(serial.removeprefix("adb:"), adb).clean()
    (console or TerminalConsole()).print(Text(f"{serial}: nothing of ours is left on it"))
