"""Which phone is meant: serials, addresses, ANDROID_SERIAL, one phone connected twice; devices whose ABI is not theirs."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from device_runner.devices.adb import facts
from device_runner.devices.adb.device import AdbDevice
from device_runner.devices.kinds import open_device, open_devices
from device_runner.errors import RunnerError
from mobilevd.commands.devices import list_devices

ADB = """#!/bin/sh
dir={dir}
case "$1" in
  version) echo "Android Debug Bridge version 1.0.41"; echo "Version 36.0.0-1" ;;
  devices) cat "$dir/listed" ;;
  connect) echo "connected to $2" ;;
  -s) export SERIAL="$2" PATH="$dir/bin:$PATH"; shift 2; [ "$1" = shell ] && {{ shift; exec sh -c "$*"; }} ;;
esac
"""
GETPROP = """#!/bin/sh
case "$1" in
  ro.serialno) cat {dir}/serial-"$SERIAL" 2>/dev/null ;;
  ro.boot.serialno) ;;
  *) printf '[ro.build.version.sdk]: [34]\\n[ro.product.cpu.abilist]: [x86_64]\\n[ro.product.model]: [Pixel]\\n' ;;
esac
"""


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes an adb that lists phones: serial -> the serial number that the phone itself tells."""
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    folder = tmp_path / "adb"
    (folder / "bin").mkdir(parents=True)
    for file, text in ((folder / "adb", ADB), (folder / "bin" / "getprop", GETPROP)):
        file.write_text(text.format(dir=folder))
        file.chmod(0o755)

    def make(phones: dict[str, str]) -> str:
        lines = [f"{serial}\tdevice product:x model:Pixel transport_id:1" for serial in phones]
        (folder / "listed").write_text("\n".join(["List of devices attached", *lines, ""]))
        for serial, own in phones.items():
            (folder / f"serial-{serial}").write_text(own)
        return str(folder / "adb")

    return make


def names(devices: list, program: str) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    return [device.name for device in open_devices(devices, program, notes.append)], notes


def test_one_phone_under_two_serials_is_measured_once(adb: Callable[..., str]) -> None:
    program = adb({"192.168.1.5:5555": "R58M123", "R58M123": "R58M123", "OTHER": "OTHER"})
    found, notes = names(["all"], program)
    assert found == ["adb:R58M123", "adb:OTHER"], "the cable is kept"
    assert notes == ["adb:192.168.1.5:5555 is the same device as adb:R58M123: measured once, as adb:R58M123"]
    both, notes = names(["adb:192.168.1.5:5555", "adb:R58M123"], program)
    assert both == ["adb:R58M123"] and len(notes) == 1
    assert names(["adb:192.168.1.5:5555"], program) == (["adb:192.168.1.5:5555"], [])


def test_phones_that_do_not_tell_who_they_are_stay_two(adb: Callable[..., str]) -> None:
    """Two that tell no serial number, on one kernel: containers, or phones that hide it."""
    found, notes = names(["all"], adb({"A": "", "B": "", "C": "unknown"}))
    assert found == ["adb:A", "adb:B", "adb:C"] and notes == []


def test_a_serial_or_an_address_alone_is_a_phone(adb: Callable[..., str]) -> None:
    program = adb({"R58M123": "1", "emulator-5554": "2", "192.168.1.5:5555": "3"})
    for name in ("R58M123", "emulator-5554", "192.168.1.5:5555"):
        assert open_device(name, program).name == f"adb:{name}"
    with pytest.raises(RunnerError, match="unknown device 'R58M124'; known: .*, all; adb lists: R58M123, em"):
        open_device("R58M124", program)
    with pytest.raises(RunnerError, match="unknown device 'fridge'; known: host, adb, iphone, all$"):
        open_device("fridge", "/nowhere/adb")
    with pytest.raises(RunnerError, match="10.0.0.9:5555 cannot be reached"):
        open_device("10.0.0.9:5555", program)


def test_android_serial_is_honoured_as_by_adb(adb: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    program = adb({"A": "1", "B": "2"})
    with pytest.raises(RunnerError, match="several devices are connected"):
        open_device("adb", program)
    monkeypatch.setenv("ANDROID_SERIAL", "B")
    assert open_device("adb", program).name == "adb:B"
    assert open_device("adb:A", program).name == "adb:A", "a name that is given goes before"
    assert [device.name for device in AdbDevice.find_all(program)] == ["adb:A", "adb:B"]
    monkeypatch.setenv("ANDROID_SERIAL", "C")
    with pytest.raises(RunnerError, match="ANDROID_SERIAL is C: adb:C is not connected; adb lists: A"):
        open_device("adb", program)


@pytest.mark.parametrize("width", [40, 200])
def test_a_list_never_cuts_a_serial(adb: Callable[..., str], width: int) -> None:
    long = "adb-R58M123ABCDEF-xYz012._adb-tls-connect._tcp"
    program = adb({long: "1", "SHORT": "1"})
    console = Console(width=width, file=io.StringIO())
    list_devices(program, console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    serial = f"adb:{long}"
    assert serial in told and "adb:SHORT" in told and "…" not in told
    assert f"{serial} is the same device as adb:SHORT" in told.replace("\n", " ")


def platform(abilist: str, machine: str) -> facts.Platform:
    props = f"[ro.build.version.sdk]: [33]\n[ro.product.cpu.abilist]: [{abilist}]"

    def shell(command: str) -> str:
        script = command.replace("getprop", f"printf '%s\\n' '{props}'").replace("uname -m", f"echo {machine}")
        script = script.replace("/proc/", "/nowhere/")  # not this machine's
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout

    return facts.platform(shell)


@pytest.mark.parametrize(
    ("abilist", "machine", "translated"),
    [
        ("arm64-v8a,x86_64", "x86_64", True),
        ("armeabi-v7a", "i686", True),
        ("x86_64,arm64-v8a", "x86_64", False),  # its own first: what is run is not translated
        ("arm64-v8a,armeabi-v7a", "aarch64", False),
        ("armeabi-v7a", "aarch64", False),  # 32 bits on a 64-bit kernel
        ("armeabi-v7a", "armv8l", False),
        ("x86", "x86_64", False),
    ],
)
def test_a_device_whose_first_abi_is_not_its_kernels_gives_no_latency(
    abilist: str, machine: str, translated: bool
) -> None:
    found = platform(abilist, machine)
    assert found.abi == abilist.split(",")[0]
    assert (found.emulated is not None and found.emulated.startswith("translated: its programs are of")) == translated
    if not translated:
        assert found.emulated is None


def test_a_device_that_never_stops_talking_is_ended(adb: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_runner.devices.adb.client.MAX_SAID_BYTES", 1 << 20)
    device = AdbDevice.from_argument("A", adb({"A": "1"}))
    with pytest.raises(RunnerError, match="adb said more than 1 MiB; the device floods it"):
        device.adb.shell("while :; do echo flood flood flood flood flood flood flood flood; done")
