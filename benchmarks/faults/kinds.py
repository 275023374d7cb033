"""The faults, each an action on a measurement in progress, or on the files for it.

A fault during a measurement waits until there is something for it to hit, on the device itself if possible, then until
a random moment, and returns the number of things it hit. 0 means that the measurement was over and nothing was tried.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.faults.bed import Bed, Measuring
from benchmarks.faults.bench_once import PROTOCOL
from device_runner.devices.adb.survey import BASE
from tests.device_runner.conftest import write_manifest

PHASES = ("looking", "starting", "running", "running", "running", "fetching")  # a measurement runs most of the time
PUSHING = ("pushing", "pushing", "checking")
"""Additional phases, when the device has none of the files."""
SHORT_S = 0.2
"""Approximate duration of every phase but `running`."""
TIMED = f"{BASE}/runs/*/logs/timed.stdout"
OUTPUT = f"{BASE}/runs/*/steps/timed/output_0.bin"
RUNNERS = "for p in /proc/[0-9]*; do grep -q ^ld-linux $p/comm 2>/dev/null && {} && echo hit; done"


def at_random_point(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    """Wait until a random moment of a random phase; return 1 if the measurement was still in progress, else 0."""
    phase = rng.choice(PHASES + PUSHING if measuring.fresh else PHASES)
    if phase == "running":
        while_timed(bed, measuring, rng)
    else:
        measuring.wait_for(phase)
        time.sleep(rng.uniform(0, SHORT_S))
    return int(measuring.process.poll() is None)


def while_timed(bed: Bed, measuring: Measuring, rng: random.Random) -> None:
    """Wait until a random moment of the timed runs."""
    measuring.wait_for("starting")
    wait_on_device(bed, f"[ -s {TIMED} ]")
    time.sleep(rng.uniform(0, PROTOCOL.min_seconds))


def wait_on_device(bed: Bed, condition: str) -> None:
    """Wait until a shell condition holds on the device, for five seconds at most."""
    bed.sh(f"i=0; until {condition} 2>/dev/null || [ $i -ge 500 ]; do sleep 0.01; i=$((i + 1)); done")


def hits(bed: Bed, command: str) -> int:
    """Number of times that a command on the device printed `hit`."""
    return bed.sh(command).count("hit")


def adbd_dies(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    hit = at_random_point(bed, measuring, rng)
    bed.phone.kill_adbd()
    time.sleep(rng.uniform(0, 2))
    bed.phone.start_adbd()
    return hit


def link_drops(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    hit = at_random_point(bed, measuring, rng)
    bed.world.link(up=False)
    time.sleep(rng.uniform(0.1, 3))
    bed.world.link(up=True)
    return hit


def link_flaps(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    hit = at_random_point(bed, measuring, rng)
    for _ in range(3):
        bed.phone.kill_adbd()
        bed.phone.start_adbd()
        time.sleep(rng.uniform(0, 0.5))
    return hit


def disconnected_by_another(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    hit = at_random_point(bed, measuring, rng)
    subprocess.run([bed.adb, "disconnect", bed.phone.serial], capture_output=True, timeout=20)
    return hit


def runner_killed(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    while_timed(bed, measuring, rng)
    name = rng.choice(("KILL", "TERM", "SEGV", "ABRT"))
    return hits(bed, RUNNERS.format(f"kill -{name} ${{p#/proc/}}"))


def runner_paused(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    while_timed(bed, measuring, rng)
    hit = hits(bed, RUNNERS.format("kill -STOP ${p#/proc/}"))
    time.sleep(rng.uniform(0.1, 1))
    bed.sh(RUNNERS.format("kill -CONT ${p#/proc/}"))
    return hit


def job_killed(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    """Kill the script that runs the steps, not the step itself."""
    while_timed(bed, measuring, rng)
    return hits(bed, f"for f in {BASE}/runs/*/pid; do read -r pid rest < $f && kill -KILL $pid && echo hit; done")


def disk_fills(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    hit = at_random_point(bed, measuring, rng)
    bed.sh("dd if=/dev/zero of=/data/filler bs=1M count=400 2>/dev/null; true")
    time.sleep(rng.uniform(0, 2))
    bed.sh("rm -f /data/filler")
    return hit


def stored_file_corrupted(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    """Overwrite one byte in the middle of every file in the store; this measurement notices it, or the next one."""
    hit = at_random_point(bed, measuring, rng)
    command = "printf X | dd of=$f bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null && echo hit"
    return hit and hits(bed, f"for f in {BASE}/files/*; do size=$(stat -c %s $f) && {command}; done")


def stored_file_cut(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    hit = at_random_point(bed, measuring, rng)
    return hit and hits(bed, f"for f in {BASE}/files/*; do [ -f $f ] && truncate -s 1000 $f && echo hit; done")


def run_folder_removed(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    hit = at_random_point(bed, measuring, rng)
    return hit and hits(bed, f"[ -e {BASE}/runs ] && rm -rf {BASE}/runs && echo hit")


def log_cut(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    """Cut the log, as a full disk or a lost page would leave it."""
    while_timed(bed, measuring, rng)
    cut = f"size=$(stat -c %s $f) && truncate -s $((size * {rng.randrange(100)} / 100)) $f && echo hit"
    return hits(bed, f"for f in {TIMED}; do [ -s $f ] && {cut}; done")


def line_lost(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    """Remove one sample from the finished log, before it is fetched."""
    measuring.wait_for("starting")
    wait_on_device(bed, f"grep -q done {TIMED}")
    command = f"sed -i '{rng.randrange(4, 15)}d' $f && echo hit"
    return hits(bed, f"for f in {TIMED}; do grep -q done $f && {command}; done")


def output_damaged(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    measuring.wait_for("starting")
    wait_on_device(bed, f"[ -s {OUTPUT} ]")
    damage = f"printf XXXX | dd of=$f bs=4 seek={rng.randrange(1000)} conv=notrunc 2>/dev/null && echo hit"
    return hits(bed, f"for f in {OUTPUT}; do [ -s $f ] && {damage}; done")


def exit_code_forged(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    """Kill the runner, and forge a record that all went well."""
    while_timed(bed, measuring, rng)
    forge = f"for d in {BASE}/runs/*; do echo 0 > $d/logs/timed.exit; date +%s > $d/finished; done"
    return hits(bed, f"{RUNNERS.format('kill -KILL ${p#/proc/}')}; {forge}")


def phone_restarts(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    hit = at_random_point(bed, measuring, rng)
    bed.phone.reboot()
    return hit


def host_killed(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    """Kill the measuring process, and give the same command again."""
    hit = at_random_point(bed, measuring, rng)
    measuring.process.kill()
    measuring.process.wait()
    time.sleep(rng.uniform(0, 1.5))
    measuring.start()
    return hit


def host_interrupted(bed: Bed, measuring: Measuring, rng: random.Random) -> int:
    hit = at_random_point(bed, measuring, rng)
    measuring.process.send_signal(signal.SIGINT)
    return hit


During = Callable[[Bed, Measuring, random.Random], int]
DURING: dict[str, During] = {
    function.__name__: function
    for function in (
        adbd_dies,
        link_drops,
        link_flaps,
        disconnected_by_another,
        runner_killed,
        runner_paused,
        job_killed,
        disk_fills,
        stored_file_corrupted,
        stored_file_cut,
        run_folder_removed,
        log_cut,
        line_lost,
        output_damaged,
        exit_code_forged,
        phone_restarts,
        host_killed,
        host_interrupted,
    )
}


def wrong_reference(bundle: Path, bed: Bed, rng: random.Random) -> None:
    """Change the bundle's reference, as if it were that of another model."""
    file = bundle / "reference" / "unet.latents.bin"
    values = np.fromfile(file, np.float32)
    values[rng.randrange(len(values))] += 0.01
    values.tofile(file)
    write_manifest(bundle, json.loads(json.dumps(bed.manifest)))


def wrong_input(bundle: Path, bed: Bed, rng: random.Random) -> None:
    """Change an input, so that inputs and reference do not belong together."""
    file = bundle / "reference" / "unet.image.bin"
    values = np.fromfile(file, np.float32)
    values[rng.randrange(len(values))] += 0.5
    values.tofile(file)
    write_manifest(bundle, json.loads(json.dumps(bed.manifest)))


Before = Callable[[Path, Bed, random.Random], None]
BEFORE: dict[str, Before] = {function.__name__: function for function in (wrong_reference, wrong_input)}
"""Faults done to the bundle beforehand; no result can be right after any of them."""
