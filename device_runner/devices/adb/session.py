"""One call of `AdbDevice.run`: first the leftovers of earlier calls, then files, run and results; and cleaning up."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from device_runner.devices.adb.client import ConnectionLost
from device_runner.devices.adb.detached import Run, raw_runs
from device_runner.devices.adb.lock import place
from device_runner.devices.adb.push import SLOW_BYTES_S
from device_runner.devices.adb.reconnecting import ReconnectingDevice
from device_runner.devices.adb.storage import Storage, Transfer, file_sha256
from device_runner.devices.adb.survey import RunFolder, Survey, survey
from device_runner.devices.job import Job, Progress, RawJob, Ready
from device_runner.errors import RunnerError

GRACE_S = 5.0
"""Seconds past a job's time limit after which it is stopped from here; at the limit the device itself ends it."""
REMOVE_S = 20.0
"""Time to wait for a device that is gone when only cleaning up is left."""


def about(run: RunFolder, found: Survey) -> str:
    """A description of another run, for messages."""
    age = "" if run.began is None else f", begun {max(0, found.now - run.began)} s ago"
    return f"another job (key {(run.key or run.name)[:16]}{age})"


class Session:
    """The state and the steps of one call."""

    def __init__(
        self, device: ReconnectingDevice, job: Job, output_dir: Path, ready: Ready, progress: Progress
    ) -> None:
        self.device, self.job, self.output_dir = device, job, output_dir
        self.ready, self.progress = ready, progress
        self.held = device.held
        self.storage = Storage(device.adb, device.base, device.held)
        self.run_folder: Run | None = None
        self.started = False

    def run(self) -> RawJob:
        before = self.device.reconnects
        try:
            note, transfer = self._begin()
            self._watch()
            raw = self._collect(note, self.device.state(), transfer)
        except ConnectionLost as error:
            if not self.started:
                raise
            raise ConnectionLost(
                f"{error}; {self.job.title} goes on without it: give the same command again and it is taken up"
            ) from None
        except BaseException:
            self._abandon()
            raise
        self._forget()
        raw.transfer["reconnects"] = self.device.reconnects - before
        return raw

    def _begin(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Resume a run or start one; return the note stored beside it, and the transfer's figures."""
        self.progress("looking at the device", None)
        found = self.held(lambda: survey(self.device.adb, self.device.base))
        if taken := self._take_up(found):
            self.progress("taking up a run that an earlier call started", None)
            ended = {run.name: run.finished for run in found.runs}[self.run_folder.name] if self.run_folder else None
            waited = {} if ended is None else {"ended_s_ago": max(0, found.now - ended)}
            return taken, {"pushed_bytes": 0, "push_s": 0.0, "check_s": 0.0, "kept_bytes": 0, "taken_up": True} | waited
        if self.job.cpu_mask is not None and "taskset" in found.lacks:
            raise RunnerError(
                f"{self.device.name}: the device has no taskset, so no cores can be chosen; leave out cpu_mask"
            )
        sampler = None
        if self.job.sample_state_s is not None:
            from device_runner.devices.adb.state import sampler_script

            sampler = sampler_script()
        try:
            transfer, sha256, copied = self._bring(found)
        except OSError as error:
            raise RunnerError(f"{self.job.title}: {error.filename}: cannot be read: {error.strerror}") from None
        run = self.run_folder = Run.new(self.device.adb, self.device.base, self.job.key)
        self.held(lambda: run.prepare(self.job, sha256, copied, sampler))
        self.ready()
        self.progress("starting", None)
        note = {"state_before": self.device.state(), "started": datetime.now(UTC).isoformat(timespec="milliseconds")}
        self.started = True  # from here on it may be running, whether the answer arrives or not
        self.held(lambda: run.start(note))
        return note, {
            "pushed_bytes": transfer.pushed_bytes,
            "push_s": round(transfer.push_s, 3),
            "check_s": round(transfer.check_s, 3),
            "kept_bytes": transfer.kept_bytes,
            "taken_up": False,
        }

    def _take_up(self, found: Survey) -> dict[str, Any] | None:
        """Resume a run with our key and return its note, or None; remove all folders that are of no more use."""
        for run in found.runs:
            if run.alive and run.key != self.job.key:
                raise RunnerError(
                    f"{self.device.name}: {about(run, found)} is running on the device; "
                    f"a measurement beside another is none"
                )
        done = self._collected()
        usable = [
            run
            for run in found.runs
            if run.key == self.job.key and run.this_boot and (run.alive or run.finished) and run.name not in done
        ]
        usable.sort(key=lambda run: (run.alive, run.finished or 0))
        taken, note = None, None
        while usable and note is None:
            taken = Run(self.device.adb, self.device.base, usable.pop().name)
            note = self.held(taken.note)
        for run in found.runs:
            if taken is None or note is None or run.name != taken.name:
                old = Run(self.device.adb, self.device.base, run.name)
                self.held(lambda old=old: old.stop(remove=True))
        if taken is not None and note is not None:
            self.run_folder, self.started = taken, True
        return note

    def _bring(self, found: Survey) -> tuple[Transfer, dict[str, str], set[str]]:
        """Bring the job's files into the store; also return each one's SHA-256, and the names to copy from there."""
        files = self.job.files
        sha256 = {name: self.job.sha256.get(name) or file_sha256(path) for name, path in files.items()}
        # Where a program is started by a link, its loader looks for libraries beside the link's target. So programs and
        # the files beside them are copies, and only other files, the large ones, are links.
        folders = {name.rpartition("/")[0] for name in self.job.executables}
        copied = {name for name in files if name.rpartition("/")[0] in folders and "/" in name} | self.job.executables
        copied |= {name for name in files if ".so" in name.rpartition("/")[2]}
        more = self.job.output_bytes + sum(files[name].stat().st_size for name in copied)
        by_sha = {sha256[name]: path for name, path in files.items()}
        names = {sha256[name]: name for name in files}
        return self.storage.bring(found, by_sha, names, more, self.progress), sha256, copied

    def _watch(self) -> None:
        """Wait until the run has finished; raises `RunnerError` if it never will."""
        run = self.run_folder
        assert run is not None
        what = f"{self.device.name}: {self.job.title}"
        began: float | None = None
        age = 0.0
        while True:
            look = self.held(lambda age=age: run.look(age))
            if began is None:  # by the device's clock, once: it may be set meanwhile
                began = time.monotonic() - max(0, look.age_s)
            age = time.monotonic() - began
            if look.restarted:
                raise RunnerError(f"{what}: the device restarted during the run, which is lost; start it again")
            if look.finished:
                return
            if look.timed_out or age > self.job.timeout_s + GRACE_S:
                raise RunnerError(f"{what}: was stopped after {self.job.timeout_s:g} s, the time limit")
            if look.gone:
                raise RunnerError(f"{what}: the run's folder was removed on the device meanwhile")
            if not look.alive:
                if look.adbd_restarted:
                    raise RunnerError(
                        f"{what}: adbd was restarted on the device (USB mode changed or USB debugging switched off), "
                        "which ends everything it had started; set USB to charging only and start again"
                    )
                free = self.held(self.storage.free)
                space = "" if free is None else f" ({free / 1e6:.0f} MB are free there)"
                raise RunnerError(
                    f"{what}: the run was ended on the device from outside: short of memory or storage{space}, or the "
                    "maker's power saving"
                )
            self.progress(*(self.job.told(look.step, look.lines) if look.step else ("running", None)))

    def _collect(self, note: dict[str, Any], after: dict[str, Any], transfer: dict[str, Any]) -> RawJob:
        run = self.run_folder
        assert run is not None
        self.progress("fetching results", None)
        codes, hashes = self.held(lambda: run.left(self.job))
        fetched = Path(tempfile.mkdtemp(prefix=".fetched-", dir=self.output_dir))
        try:
            limit = 120 + self.job.output_bytes / SLOW_BYTES_S
            self.held(lambda: run.fetch(hashes, fetched, limit))
            steps = raw_runs(self.device.name, self.job, codes, fetched, self.output_dir)
            series = fetched / "logs" / "series"
            text = series.read_text(errors="replace") if series.is_file() else ""
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
        samples = []
        if text:
            from device_runner.devices.adb.state import parse_series

            samples = parse_series(text)
        return RawJob(steps, note["started"], note["state_before"], after, samples, transfer)

    def _collected(self) -> set[str]:
        """Names of runs whose results were handed over but whose folders could not be removed."""
        try:
            return set(json.loads(place(self.device.adb.serial, "collected").read_text()))
        except (OSError, ValueError, TypeError):
            return set()

    def _forget(self) -> None:
        """Remove the run's folder; if the device is gone, record that the results were handed over."""
        run = self.run_folder
        assert run is not None
        memory = place(self.device.adb.serial, "collected")
        memory.write_text(json.dumps([run.name]))
        with suppress(ConnectionLost):
            try:
                run.stop(remove=True)
            except ConnectionLost:
                self.device.adb.wait_back(REMOVE_S)
                run.stop(remove=True)
            memory.unlink()

    def _abandon(self) -> None:
        """Stop and remove the run as far as the device can still be reached."""
        run = self.run_folder
        if run is None:
            return
        self.device.adb.cancelled.clear()
        with suppress(RunnerError):
            try:
                run.stop(remove=True)
            except ConnectionLost:
                self.device.adb.wait_back(REMOVE_S)
                run.stop(remove=True)
