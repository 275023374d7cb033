"""Decoding beside the encoder: in order, a bounded number ahead, and with one line when a worker dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from mobilevd.errors import UserError
from tests.source import ROOT
from tests.training.data.numbered import read_number, write_numbered
from training.data.store import decoding
from training.data.store.decoding import ClipDecoder, DecodeJob, compressed, uncompressed
from training.data.videos import Video


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[DecodeJob]:
    """A job for every frame of a video of forty, and one that cannot be done."""
    file = write_numbered(tmp_path_factory.mktemp("video") / "v.mp4", 40, 10)
    good = [DecodeJob(Video("v.mp4", file), number / 10, 2, 10, 32, 64) for number in range(38)]
    return [*good[:20], DecodeJob(Video("gone.mp4", file.with_name("gone.mp4")), 0.0, 2, 10, 32, 64), *good[20:]]


def test_frames_are_kept_without_loss():
    frame = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    assert np.array_equal(uncompressed(compressed(frame)), frame)


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_and_failures_as_reasons(jobs, workers):
    decoder = ClipDecoder(workers, len(jobs))
    assert decoder.workers == workers
    submitted = 0

    def counted():
        nonlocal submitted
        for job in jobs:
            submitted += 1
            yield job

    seen = []
    for number, result in enumerate(decoder.stream(counted())):
        assert submitted <= number + (2 * workers or 1)  # a bounded number waits
        seen.append(None if result.pixels is None else read_number(result.pixels[0]))
        if result.pixels is None:
            assert "gone.mp4: no such file" in result.reason
        else:
            assert np.array_equal(uncompressed(result.first_frame), result.pixels[0])
    assert seen == [*range(20), None, *range(20, 38)]
    decoder.close()


def test_few_clips_are_not_worth_a_process():
    assert ClipDecoder(8, 10).workers == 0 and decoding.default_workers() >= 1


def test_a_killed_worker_is_one_line(jobs):
    decoder = ClipDecoder(1, len(jobs))
    results = decoder.stream(jobs * 3)
    next(results)
    (worker,) = [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]
    worker.kill()
    with pytest.raises(UserError, match="a process that decodes videos was killed"):
        list(results)
    decoder.close()


ENDLESS = """
import sys, time
from pathlib import Path
from training.data.store.decoding import DecodeJob, ClipDecoder
from training.data.videos import Video
if __name__ == "__main__":
    job = DecodeJob(Video("gone", Path("gone")), 0.0, 2, 10, 32, 64)
    decoder = ClipDecoder(1, 100)
    decoder.submit(job).result()
    print("decoding", flush=True)
    time.sleep(100)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "decoding\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        assert len(workers) == 1
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 30
    while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):
        assert time.monotonic() < deadline, "workers are left"
        time.sleep(0.1)
