"""An iPhone connected to this Mac, as a device: the worker process runs on the Mac, the model on the phone."""

from __future__ import annotations

import importlib.util
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from device_runner.devices.host import HostDevice
from device_runner.devices.job import Job, Platform, Progress, RawJob, Ready
from device_runner.errors import RunnerError

KIND = "iphone"


class IphoneDevice:
    """A connected iPhone; it reports neither temperatures nor frequencies."""

    warning: str | None = None

    def __init__(self, phone: Any) -> None:
        self.phone, self.udid = phone, str(phone.udid)
        self.name = f"{KIND}:{self.udid}"

    @classmethod
    def from_argument(cls, argument: str, adb: str | None = None) -> IphoneDevice:
        """Open the phone of `iphone` or `iphone:UDID`; raises `RunnerError` unless exactly one phone matches."""
        found = connected()
        chosen = [phone for phone in found if argument in ("", phone.udid, phone.name)]
        if len(chosen) == 1:
            return cls(chosen[0])
        listed = ", ".join(f"{KIND}:{phone.udid} ({phone.name})" for phone in found) or "none"
        wanted = f"no iPhone {argument!r} is connected" if argument else "it is not clear which iPhone is meant"
        raise RunnerError(f"{wanted if found else 'no iPhone is connected'}; connected: {listed}")

    @classmethod
    def find_all(cls, adb: str | None = None) -> list[IphoneDevice]:
        return [cls(phone) for phone in connected()]

    def platform(self) -> Platform:
        return Platform("ios", "arm64-v8a")

    def describe(self) -> dict[str, Any]:
        return {
            "manufacturer": "Apple",
            "model": self.phone.name,
            "system": f"iOS {self.phone.os_version}",
            "fingerprint": self.phone.os_build_number,
        }

    def state(self) -> dict[str, Any]:
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **dict.fromkeys(("uptime_s", "thermal_status", "battery_c", "battery_percent", "charging")),
            "load_average": [],
            "governors": [],
            "frequencies_khz": [],
            "max_frequencies_khz": [],
            "temperatures_c": {},
            "memory_available_bytes": None,
        }

    def versions(self) -> dict[str, str]:
        return {"python": platform.python_version(), "macos": platform.mac_ver()[0]}

    def cancel(self) -> None:
        """Do nothing: a process on this machine drives the work and reports progress."""

    def run(self, job: Job, output_dir: Path, ready: Ready, progress: Progress) -> RawJob:
        """Run the job's processes on this Mac; no series of states is kept, since they would be the Mac's."""
        raw = _Driver().run(job, output_dir, ready, progress)
        return RawJob(raw.steps, raw.started, self.state(), self.state(), [], raw.transfer)


class _Driver(HostDevice):
    """This Mac as the driver of a phone; its own programs may be measured at the same time."""

    works_itself = False


def connected() -> list[Any]:
    """The iPhones that Xcode's devicectl lists as connected; raises `RunnerError` where there can be none."""
    if platform.system() != "Darwin":
        raise RunnerError(f"an iPhone is measured from a Mac that it is connected to; this is {platform.system()}")
    if importlib.util.find_spec("coremltools") is None:
        raise RunnerError("iPhones are driven by the package coremltools, which is not installed: pip install it")
    from coremltools.models.ml_program.experimental.remote_device import Device, DeviceType

    try:
        return list(Device.get_connected_devices(DeviceType.IPHONE))
    except Exception as error:  # coremltools raises ValueError, OSError and exceptions of its own
        raise RunnerError(f"the connected iPhones cannot be listed: {error}; is Xcode 15 or newer installed?") from None
