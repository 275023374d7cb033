"""The kinds of devices, and how a device is opened by its name."""

from __future__ import annotations

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
    """The device that `KIND` or `KIND:ARGUMENT` names; raises `RunnerError` listing the known kinds otherwise."""
    kind, _, argument = device.partition(":")
    if device == ALL:
        raise RunnerError(f"one device is needed here, not {ALL}; there are: {', '.join(DEVICES)}")
    if kind not in DEVICES:
        raise RunnerError(f"unknown device {device!r}; known: {', '.join(DEVICES)}, {ALL}")
    return DEVICES[kind].from_argument(argument, adb)


def open_devices(devices: list[str], adb: str | None = None) -> list[Device]:
    """The devices that the names stand for, each once; `all` stands for every phone that adb lists as usable."""
    opened: dict[str, Device] = {}
    for name in devices:
        found: list[Device] = [*AdbDevice.find_all(adb)] if name == ALL else [open_device(name, adb)]
        opened |= {device.name: device for device in found}
    return list(opened.values())
