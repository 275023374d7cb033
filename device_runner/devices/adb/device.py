"""A phone, or anything else that adb reaches, as a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from device_runner.devices.adb.client import Adb, Client, choose
from device_runner.devices.adb.jobscript import check_job
from device_runner.devices.adb.lock import COLLECTED, place, sole_use
from device_runner.devices.adb.program import find_program
from device_runner.devices.adb.reconnecting import ReconnectingDevice
from device_runner.devices.adb.remote import quote
from device_runner.devices.adb.session import Session, about
from device_runner.devices.adb.storage import Storage
from device_runner.devices.adb.survey import survey
from device_runner.devices.job import Job, Platform, Progress, RawJob, Ready
from device_runner.errors import RunnerError


class AdbDevice(ReconnectingDevice):
    """One device that adb reaches."""

    @classmethod
    def from_argument(cls, argument: str, adb: str | None = None) -> AdbDevice:
        """Open the device that follows `adb:`, a serial or HOST:PORT; if nothing follows, the only one connected."""
        return cls(choose(Client(find_program(adb)), argument or None))

    @classmethod
    def find_all(cls, adb: str | None = None) -> list[AdbDevice]:
        """Every usable device; raises `RunnerError` if there is none."""
        program = find_program(adb)
        listed = Client(program).devices()
        if not any(device.usable for device in listed):
            choose(Client(program), None)  # says why
        return [cls(Adb(program, device.serial)) for device in listed if device.usable]

    @staticmethod
    def serials(adb: str | None = None) -> list[str]:
        """All that adb lists, in any state."""
        return [device.serial for device in Client(find_program(adb)).devices()]

    @property
    def warning(self) -> str | None:
        """A caution about the adb program; None if there is none."""
        return self.adb.program.warning

    def cancel(self) -> None:
        """End `run` from another thread as on Ctrl-C, with KeyboardInterrupt."""
        self.adb.cancelled.set()

    def platform(self) -> Platform:
        from device_runner.devices.adb.facts import platform

        return platform(self.shell)

    def describe(self) -> dict[str, Any]:
        from device_runner.devices.adb.facts import describe

        return {"kind": "adb", "serial": self.adb.serial, **describe(self.shell)}

    def identity(self) -> str | None:
        """What tells this device from all others, whatever it is connected by; None if it does not tell, or is away."""
        from device_runner.devices.adb.facts import identity

        try:
            return identity(lambda command: self.adb.shell_answer(command).stdout)
        except RunnerError:
            return None

    def versions(self) -> dict[str, str]:
        return {"adb": self.adb.program.version, "adb_path": self.adb.program.path}

    def run(self, job: Job, output_dir: Path, ready: Ready, progress: Progress) -> RawJob:
        """Run a job, see `base.Device.run`. An earlier call's run with an equal key is resumed, finished or not."""
        check_job(job)
        with sole_use(self.adb.serial):
            return Session(self, job, output_dir, ready, progress).run()

    def clean(self) -> None:
        """Remove all files of MobileVD from the device; raises `RunnerError` if a run is going on there."""
        with sole_use(self.adb.serial):
            found = self.held(lambda: survey(self.adb, self.base))
            if running := [run for run in found.runs if run.alive]:
                raise RunnerError(f"{self.name}: {about(running[0], found)} is running; nothing was removed")
            Storage(self.adb, self.base, self.held).remove(["runs", "files"])
            place(self.adb.serial, COLLECTED).unlink(missing_ok=True)  # a note about those runs
            self.shell(f"rmdir {quote(self.base)} 2> /dev/null || :")
