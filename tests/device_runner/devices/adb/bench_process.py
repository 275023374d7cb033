"""Runs one job in a process of its own, which a test may then kill or interrupt.

`python bench_process.py ADB SERIAL BASE JOB OUTPUT`; JOB is a pickled `Job`. Prints each line of progress.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from device_runner.devices.adb.device import AdbDevice


def main() -> None:
    adb, serial, base, job, output = sys.argv[1:]
    device = AdbDevice.from_argument(serial, adb)
    device.base = base
    try:
        device.run(
            pickle.loads(Path(job).read_bytes()),
            Path(output),
            lambda: print("ready", flush=True),
            lambda what, share: print(what, share, flush=True),
        )
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
