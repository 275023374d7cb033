"""Clips decoded in processes beside the one that encodes them: in order, with a bounded number in memory.

The workers import PyAV and NumPy alone, so that one takes some 60 MB and starts at once.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mobilevd.errors import UserError
from training.data.video import read_clip
from training.data.video_stream import VideoError
from training.data.videos import Video

WINDOW_BYTES = 256 << 20
"""Decoded frames that may wait to be encoded."""
JOBS_PER_WORKER = 16
"""Clips that a worker should have to do: for fewer it is not worth its start."""
MOST_WORKERS = 8
"""Unless more are asked for: one takes about 100 MB while it decodes."""
PARENT_POLL_S = 2.0


@dataclass(frozen=True)
class DecodeJob:
    """A clip to be read, the size that it is wanted at, and width / height of its crop (None: the size's)."""

    video: Video
    start_s: float
    num_frames: int
    fps: float
    height: int
    width: int
    crop: float | None = None

    @property
    def pixel_bytes(self) -> int:
        return 3 * self.num_frames * self.height * self.width


@dataclass(frozen=True)
class Decoded:
    """A clip's pixels, uint8 (T, H, W, 3), and its first frame compressed; or the reason why there are none."""

    pixels: np.ndarray | None
    first_frame: bytes = b""
    reason: str = ""


def compressed(frame: np.ndarray) -> bytes:
    """A frame, uint8 (H, W, 3), as WebP without loss, with the least effort.

    That is smaller than PNG, and three times as fast; more effort saves a sixth and takes longer than the clip's decoding
    (benchmarks/store_choice.py).
    """
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def uncompressed(picture: bytes) -> np.ndarray:
    """The frame of `compressed`."""
    return np.array(Image.open(io.BytesIO(picture), formats=("WEBP",)))


def decode(job: DecodeJob) -> Decoded:
    """Read a clip. A video that cannot be read gives the reason, and no exception."""
    try:
        pixels = read_clip(job.video, job.num_frames, job.fps, job.start_s, job.height, job.width, job.crop)
    except VideoError as error:
        return Decoded(None, reason=str(error))
    return Decoded(pixels, compressed(pixels[0]))


def default_workers() -> int:
    """One worker per core that this process may use, shared with the launcher's other processes here; 8 at the most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


class ClipDecoder:
    """Decodes clips in worker processes, or in this one if there are none.

    Args:
        workers: processes; None: one per core, 0: none.
        jobs: clips that there are to decode in all; few are decoded here, since a worker takes a second to start.
    """

    def __init__(self, workers: int | None, jobs: int) -> None:
        wanted = default_workers() if workers is None else workers
        self.workers = min(wanted, jobs // JOBS_PER_WORKER)
        self._pool: ProcessPoolExecutor | None = None
        if self.workers:
            # not forked: this process has threads, and perhaps a GPU
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, initializer=_begin_worker, initargs=(os.getpid(),))

    def submit(self, job: DecodeJob) -> Future[Decoded]:
        """Begin a job; without workers it is done at once."""
        if self._pool is not None:
            return self._pool.submit(decode, job)
        done: Future[Decoded] = Future()
        done.set_result(decode(job))
        return done

    def stream(self, jobs: Iterable[DecodeJob]) -> Iterator[Decoded]:
        """Results in the order of the jobs, decoded some clips ahead."""
        waiting: deque[Future[Decoded]] = deque()
        for job in jobs:
            waiting.append(self.submit(job))
            ahead = max(2, min(2 * self.workers, WINDOW_BYTES // job.pixel_bytes)) if self.workers else 1
            if len(waiting) >= ahead:
                yield result_of(waiting.popleft())
        while waiting:
            yield result_of(waiting.popleft())

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def result_of(future: Future[Decoded]) -> Decoded:
    """The result of a job. UserError if a worker was killed."""
    try:
        return future.result()
    except BrokenProcessPool:
        raise UserError(
            "a process that decodes videos was killed (often for lack of memory); give data.workers=1, or 0 for none"
        ) from None


def _begin_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it is gone: a killed parent cannot end its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
