"""The test bed for injected faults: a genuine adbd, a small real bundle, and a record of what truly ran."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_runner.devices.adb.survey import BASE
from tests.device_runner.conftest import export_small_network, write_manifest
from tests.device_runner.devices.adb.world import Adbd, World

WITNESSES = "/data/witness"  # on the device, outside our own folder
WITNESS_SCRIPT = f"""#!/bin/sh
mkdir -p {WITNESSES}
w={WITNESSES}/$$
{{ "$@"; echo $? > $w.code; }} | tee $w.part
read -r code < $w.code
[ "$code" = 0 ] && mv $w.part $w.done
exit "$code"
"""
GIVE_UP_S = 90.0
Say = Callable[[str], None]


@dataclass
class Outcome:
    """The result of one measurement."""

    accepted: dict[str, Any] | None
    """The measurement's JSON; None if none was accepted."""
    said: str
    """The text of the refusal, or the last line of progress."""
    progress: list[str] = field(default_factory=list)


class Bed:
    """One device, one adb, and measurements on them, each in a process of its own."""

    def __init__(self, folder: Path, adb: str, size: str = "192m", unchecked: bool = False) -> None:
        self.folder, self.unchecked = folder, unchecked
        self.world = World(folder)
        self.adb = self.world.adb(adb)
        self.phone: Adbd = self.world.device(size=size)
        self.phone.connect(self.adb)
        self.pristine = folder / "pristine"
        (self.pristine / "reference").mkdir(parents=True)
        export_small_network(self.pristine)
        self.manifest = _manifest(self.pristine)
        self.witness = folder / "witness.sh"
        self.witness.write_text(WITNESS_SCRIPT)
        self.count = 0

    def close(self) -> None:
        self.world.close()

    def fresh_bundle(self) -> Path:
        bundle = self.folder / f"bundle-{self.count}"
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(self.pristine, bundle)
        return bundle

    def sh(self, command: str) -> str:
        return self.phone.sh(command)

    def start(self, bundle: Path, fresh: bool) -> Measuring:
        self.count += 1
        measuring = Measuring(self, bundle, fresh)
        measuring.start()
        return measuring

    def witnessed(self) -> list[list[int]]:
        """The timed samples, in nanoseconds, of every process that truly came to its end on the device."""
        found = []
        for part in self.sh(f"for f in {WITNESSES}/*.done; do cat $f; echo '---'; done").split("---"):
            events = [json.loads(line) for line in part.splitlines() if line.startswith("{")]
            if events and events[-1]["event"] == "done":
                found.append([event["ns"] for event in events if event["event"] == "iteration"])
        return found

    def settle(self) -> None:
        """Restore the device: reachable, with free space, nothing running, no records of earlier runs."""
        self.world.link(up=True)
        self.sh(
            "rm -rf /data/filler; for p in /proc/[0-9]*; do grep -q ^ld-linux $p/comm && kill -KILL ${p#/proc/}; done"
        )
        self.phone.kill_adbd()
        self.phone.start_adbd()
        self.phone.connect(self.adb)
        self.sh(f"rm -rf {WITNESSES} {BASE}/runs")


class Measuring:
    """A measurement in progress; it may be started several times in succession."""

    def __init__(self, bed: Bed, bundle: Path, fresh: bool) -> None:
        self.bed, self.bundle, self.fresh = bed, bundle, fresh
        self.result = bed.folder / f"result-{bed.count}.json"
        self.result.unlink(missing_ok=True)
        self.changed = threading.Condition()

    def start(self) -> None:
        module = [sys.executable, "-m", "benchmarks.faults.bench_once"]
        arguments = [self.bed.adb, self.bed.phone.serial, self.bundle, self.bed.witness, self.result]
        self.process = subprocess.Popen(
            [*module, *map(str, arguments), *(["--unchecked"] if self.bed.unchecked else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        self.lines: list[str] = []
        threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True).start()

    def _read(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self.changed:
                lines.append(line.rstrip())
                self.changed.notify_all()
        with self.changed:
            lines.append("")
            self.changed.notify_all()

    def wait_for(self, phase: str) -> None:
        """Wait until a line of progress begins with `phase`, or the process ends."""
        with self.changed:
            self.changed.wait_for(
                lambda: any(line.startswith(phase) or line == "" for line in self.lines), timeout=GIVE_UP_S
            )

    def outcome(self) -> Outcome:
        try:
            self.process.wait(GIVE_UP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return Outcome(None, "HUNG", self.lines)
        time.sleep(0.01)
        said = [line for line in self.lines if line]
        accepted = json.loads(self.result.read_text()) if self.result.is_file() else None
        return Outcome(accepted, said[-1] if said else "", said)


def _manifest(folder: Path) -> dict[str, Any]:
    """Write the manifest of the small network, and return it."""
    shapes = {"image": [1, 3, 16, 16], "scale": [1, 8, 1, 1], "latents": [1, 4, 16, 16]}

    def tensor(name: str) -> dict[str, Any]:
        return {"name": name, "shape": shapes[name], "dtype": "float32", "file": f"reference/unet.{name}.bin"}

    unet = {
        "file": "unet.pte",
        "method": "forward",
        "inputs": [tensor("image"), tensor("scale")],
        "outputs": [tensor("latents") | {"min_psnr_db": 100.0}],
        "parity": {},
        "delegation": {},
    }
    manifest = {
        "schema_version": 1,
        "name": "faults",
        "target": "executorch-xnnpack",
        "precision": "fp32",
        "created": "2026-01-01T00:00:00+00:00",
        "programs": {"unet": unet},
        "model": {},
        "tools": {},
    }
    write_manifest(folder, manifest)
    return manifest
