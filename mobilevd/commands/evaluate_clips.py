"""The clips of videos for `mobilevd evaluate`: which parts are taken, and their decoding beside what is computed of them.

Decoding is done by threads: FFmpeg, Pillow and OpenCV let go of Python's lock, and threads cost neither the second that a
process takes to start nor a copy of the pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, TypeVar

import numpy as np

from training.data.clips import clip_starts
from training.data.video import read_clip
from training.data.video_stream import VideoError, VideoInfo, probe
from training.data.videos import Video

MOST_THREADS = 8
WINDOW_BYTES = 256 << 20
"""Decoded frames that may wait for the networks."""
TOGETHER = 8  # clips that follow one another in a video are decoded in one go, so many at once
HASH_BYTES = 1 << 20
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ClipForm:
    """The form that all clips are compared in."""

    num_frames: int
    fps: float
    height: int
    width: int

    @property
    def span_s(self) -> float:
        """From one clip to the next that does not overlap it."""
        return self.num_frames / self.fps


@dataclass(frozen=True)
class ClipChoice:
    """Which clips of a video are taken.

    Attributes:
        per_video: clips of a video, at the most; None: all that do not overlap.
        sampling: the first ones, or at random times; those of a video depend on its name and the seed alone.
    """

    per_video: int | None = 1
    sampling: Literal["first", "random"] = "first"
    seed: int = 0

    def starts(self, info: VideoInfo, form: ClipForm, name: str) -> list[float]:
        """Starts of the clips in seconds, rising; none if the video is too short."""
        last_s = info.duration_s - 1 / info.fps  # when the last frame is shown
        room_s = last_s - (form.num_frames - 1) / form.fps
        if room_s < -0.5 / info.fps:
            return []
        if self.sampling == "random" and self.per_video is not None:
            digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
            rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
            return clip_starts([(0.0, last_s)], info.fps, form.num_frames, form.fps, self.per_video, rng)
        fitting = 1 + int((room_s + 0.5 / info.fps) / form.span_s + 1e-9)
        count = fitting if self.per_video is None else min(fitting, self.per_video)
        return [k * form.span_s for k in range(count)]


@dataclass(frozen=True)
class Probed:
    """What a video's header says; or the reason why it cannot be read. `content` is the SHA-256 of its bytes, if asked."""

    video: Video
    info: VideoInfo | None
    reason: str = ""
    content: str = ""


@dataclass(frozen=True)
class ClipRun:
    """Clips of a video that are read in one go: the first at `start_s`, each where the one before ends."""

    video: Video
    start_s: float
    count: int
    content: str = ""

    def starts(self, form: ClipForm) -> list[float]:
        return [self.start_s + k * form.span_s for k in range(self.count)]


@dataclass(frozen=True)
class ClipPlan:
    """The clips of a folder that will be read, and the videos that give none, with the reason."""

    runs: list[ClipRun]
    num_videos: int
    unreadable: list[str]
    too_short: list[str]

    @property
    def num_clips(self) -> int:
        return sum(run.count for run in self.runs)


def decode_threads() -> int:
    """Threads that decode: one per core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, max(1, cores))


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Results in the order of the items, at most `ahead` of them computed before they are wanted."""
    pool = ThreadPoolExecutor(decode_threads(), "clips")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def probe_all(videos: Sequence[Video], with_content: bool) -> list[Probed]:
    """Read the headers of videos, and with `with_content` hash them."""
    return list(in_threads(lambda video: probed(video, with_content), videos, ahead=4 * decode_threads()))


def probed(video: Video, with_content: bool = False) -> Probed:
    """Read the header of a video."""
    try:
        return Probed(video, probe(video), content=_sha256(video) if with_content else "")
    except (VideoError, OSError) as error:
        return Probed(video, None, str(error))


def plan_clips(found: Sequence[Probed], form: ClipForm, choice: ClipChoice) -> ClipPlan:
    """Choose the clips of videos."""
    runs: list[ClipRun] = []
    too_short = []
    for each in found:
        if each.info is None:
            continue
        starts = choice.starts(each.info, form, each.video.name)
        if not starts:
            too_short.append(
                f"{each.video}: {each.info.duration_s:.2f} s long, {form.num_frames} frames at {form.fps:g} fps take "
                f"{form.span_s:.2f} s"
            )
        elif choice.sampling == "random" and choice.per_video is not None:
            runs += [ClipRun(each.video, start_s, 1, each.content) for start_s in starts]
        else:
            for first in range(0, len(starts), TOGETHER):
                count = min(TOGETHER, len(starts) - first)
                runs.append(ClipRun(each.video, starts[first], count, each.content))
    return ClipPlan(runs, len(found), [each.reason for each in found if each.info is None], too_short)


def read_run(run: ClipRun, form: ClipForm) -> list[np.ndarray | str]:
    """Decode clips: uint8 (T, H, W, 3) of each, or the reason why it cannot be read."""
    size = form.height, form.width
    if run.count > 1:
        try:
            frames = read_clip(run.video, run.count * form.num_frames, form.fps, run.start_s, *size)
            return list(frames.reshape(run.count, form.num_frames, *frames.shape[1:]))
        except (VideoError, OSError):
            pass  # clip by clip, then, to see which of them can be read
    clips: list[np.ndarray | str] = []
    for start_s in run.starts(form):
        try:
            clips.append(read_clip(run.video, form.num_frames, form.fps, start_s, *size))
        except (VideoError, OSError) as error:
            clips.append(str(error))
    return clips


def runs_ahead(form: ClipForm, longest: int) -> int:
    """How many runs of up to `longest` clips may be decoded before they are wanted."""
    run_bytes = 3 * form.num_frames * form.height * form.width * longest
    return max(2, min(3 * decode_threads(), WINDOW_BYTES // run_bytes))


def stem(video: Video) -> str:
    """The video's name without its suffix, by which it is paired with that of another folder."""
    return PurePosixPath(video.name).with_suffix("").as_posix()


def _sha256(video: Video) -> str:
    """SHA-256 of the bytes of a video, wherever they lie."""
    digest, left = hashlib.sha256(), video.size
    with video.path.open("rb") as file:
        file.seek(video.offset)
        while piece := file.read(HASH_BYTES if left is None else min(HASH_BYTES, left)):
            digest.update(piece)
            left = None if left is None else left - len(piece)
    return digest.hexdigest()
