"""The kinds of devices, and how a device is opened by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from device_runner.devices.adb.device import AdbDevice
from device_runner.devices.base import Device
from device_runner.devices.host import HostDevice
from device_runner.devices.iphone import IphoneDevice
from device_runner.errors import RunnerError


class DeviceKind(Protocol):
    """A class of devices, with the means to open one."""

    def from_argument(self, argument: str, adb: str | None = None) -> Device:
        """The device that ARGUMENT in `KIND:ARGUMENT` names; `adb` is the path of adb (None: it is searched for)."""
        ...


DEVICES: dict[str, DeviceKind] = {
    "host": HostDevice,
    "adb": AdbDevice,
    "iphone": IphoneDevice,
}
"""Kind -> its class; a new kind of device is a line here and a file in this folder."""
ALL = "all"


def open_device(device: str, adb: str | None = None) -> Device:
    """The device that `KIND` or `KIND:ARGUMENT` names, or a phone's serial alone.

    Raises `RunnerError` listing the known kinds, and the phones that adb lists, for a name that is neither.
    """
    kind, _, argument = device.partition(":")
    if device == ALL:
        raise RunnerError(f"one device is needed here, not {ALL}; there are: {', '.join(DEVICES)}")
    if kind not in DEVICES:
        return _of_serial(device, adb)
    return DEVICES[kind].from_argument(argument, adb)


def _of_serial(name: str, adb: str | None) -> Device:
    """The phone that adb lists by this name, or an address for `adb connect`."""
    if re.fullmatch(r"[\w.\-\[\]:]+:\d{1,5}", name):
        return AdbDevice.from_argument(name, adb)
    known = f"unknown device {name!r}; known: {', '.join(DEVICES)}, {ALL}"
    try:
        serials = AdbDevice.serials(adb)
    except RunnerError:  # without adb there are no phones
        serials = []
    if name in serials:
        return AdbDevice.from_argument(name, adb)
    raise RunnerError(f"{known}; adb lists: {', '.join(serials)}" if serials else known)


def open_devices(devices: list[str], adb: str | None = None, note: Callable[[str], None] | None = None) -> list[Device]:
    """The devices that the names stand for, each once; `all` stands for every phone that adb lists as usable.

    A phone that is connected twice (by cable and by Wi-Fi) is taken once, by its cable; `note` is called with a line on it.
    """
    opened: dict[str, Device] = {}
    for name in devices:
        found: list[Device] = [*AdbDevice.find_all(adb)] if name == ALL else [open_device(name, adb)]
        opened |= {device.name: device for device in found}
    phones = [device for device in opened.values() if isinstance(device, AdbDevice)]
    for left_out, kept in same_phones(phones):
        del opened[left_out.name]
        if note is not None:
            note(f"{left_out.name} is the same device as {kept.name}: measured once, as {kept.name}")
    return list(opened.values())


def same_phones(phones: Sequence[AdbDevice]) -> list[tuple[AdbDevice, AdbDevice]]:
    """Phones that are listed again under another name, each with the name to use: the one by cable, else the first."""
    kept: dict[str, AdbDevice] = {}
    again = []
    if len(phones) > 1:
        for phone in sorted(phones, key=lambda each: not each.adb.plugged_in):
            identity = phone.identity()
            if identity is not None and kept.setdefault(identity, phone) is not phone:
                again.append((phone, kept[identity]))
    return again
