"""What one video holds: its length, rate and shape, its shots, and what its clips look like; short ones decoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from PIL import Image

from training.data.clips import Shot, clip_starts
from training.data.index.detection import Detection
from training.data.index.rows import ClipSettings, MeasuredClip, VideoClips, VideoFacts
from training.data.index.shots import open_detector
from training.data.index.small_frames import measured, measured_frame, shown_aspect, small_frame
from training.data.motion import brightness_of, motion_of
from training.data.video import SEEK_MARGIN_S, Shown, conversion_errors, nearest, pixel_aspect, read_frames, undamaged
from training.data.video_stream import DamagedVideo, Timed, VideoError, VideoInfo, decode, is_indexed, opened, probe
from training.data.videos import Video

HEAD_BYTES = 1 << 20
KEPT_BYTES = 64 << 20
"""Of small frames, about 100 s of 25 a second; clips of longer videos are read again."""
LOST_SHARE, LOST_S = 0.1, 0.5
"""A video of which more than this cannot be decoded was cut off; headers are wrong by less."""


def look_at(
    video: Video, detection: Detection, settings: ClipSettings, known: VideoFacts | None = None
) -> tuple[VideoFacts, VideoClips]:
    """Find shots and clips of a video. `known` facts are taken as they are. Raises nothing for what a file may hold."""
    kept: list[Shown] | None = None
    try:
        if known is None:
            known = VideoFacts(head_of(video))
            known, kept = _facts(video, detection, known.head_sha256)
        return known, _clips(video, known, settings, kept)
    except ImportError:
        raise  # no fault of the file
    except Exception as error:  # a file from anywhere: FFmpeg, PIL and numpy have their own ways to say no
        told = str(error)
        if not isinstance(error, VideoError):
            told = f"{video}: cannot be read ({type(error).__name__}: {error})"
        if known is None or not known.num_frames:
            return VideoFacts(known.head_sha256 if known else "", error=told), VideoClips([])
        return known, VideoClips([], told)


def head_of(video: Video) -> str:
    """Hex SHA-256 of the first MiB of a video. Raises OSError."""
    wanted = HEAD_BYTES if video.size is None else min(HEAD_BYTES, video.size)
    with open(video.path, "rb") as file:
        file.seek(video.offset)
        return hashlib.sha256(file.read(wanted)).hexdigest()


def _facts(video: Video, detection: Detection, head: str) -> tuple[VideoFacts, list[Shown] | None]:
    """Facts, and all small frames of the part that is used where they are few enough to be kept."""
    info = probe(video)
    with conversion_errors(video), opened(video, threads=1) as (container, stream):
        aspect_of_pixels = pixel_aspect(stream)
        from_s = max(0.0, video.start_s - SEEK_MARGIN_S) if is_indexed(container) else 0.0
        used = _used_frames(video, decode(container, stream, from_s))
        first = next(used, None)
        if first is None:
            at = f" from {video.start_s:g} s on" if video.start_s else ""
            raise VideoError(f"{video}: broken: no frame of it can be decoded{at}")
        aspect = shown_aspect(first.frame, aspect_of_pixels)
        if detection == "none":
            end_s = info.duration_s if video.end_s is None else min(video.end_s, info.duration_s)
            shots, kept = [(first.time_s, max(first.time_s, end_s - 1 / info.fps))], None
        else:
            shots, kept = _shots(video, info, chain([first], used), detection)
    return VideoFacts(head, info.num_frames, info.fps, info.duration_s, info.width, info.height, aspect, shots), kept


def _used_frames(video: Video, frames: Iterator[Timed]) -> Iterator[Timed]:
    """Frames of the part that is used."""
    for timed in frames:
        if video.end_s is not None and timed.time_s >= video.end_s:
            return
        if timed.time_s >= video.start_s - 1e-6:
            yield timed


def _shots(
    video: Video, info: VideoInfo, frames: Iterable[Timed], detection: Detection
) -> tuple[list[Shot], list[Shown] | None]:
    """Shots of the frames, and the small frames. VideoError if far fewer can be decoded than the header promises."""
    detector = open_detector(detection)
    kept: list[Shown] | None = []
    times: list[float] = []
    size, end_s = None, 0.0
    for timed in frames:
        small = small_frame(timed.frame)
        if kept is not None:
            kept.append(Shown(timed.time_s, timed.duration_s, timed.damaged, small))
            if len(kept) * small.nbytes > KEPT_BYTES:
                kept = None
        height, width = size = size or small.shape[:2]
        if small.shape[:2] != size:  # streams may change their size
            small = np.asarray(Image.fromarray(small).resize((width, height)))
        detector.add(small)
        times.append(timed.time_s)
        end_s = timed.time_s + timed.duration_s
    promised_s = info.duration_s if video.end_s is None else min(video.end_s, info.duration_s)
    if promised_s - end_s > max(LOST_S, LOST_SHARE * promised_s):
        raise VideoError(
            f"{video}: cut off: what can be decoded ends at {end_s:.2f} s, its header promises {promised_s:.2f} s"
        )
    return [(times[first], times[last]) for first, last in detector.finish()], kept


def _clips(video: Video, facts: VideoFacts, settings: ClipSettings, kept: Sequence[Shown] | None) -> VideoClips:
    number = hashlib.sha256(f"{settings.seed}/{video.name}".encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(number, "little"))
    count, fps = settings.num_frames, settings.fps
    starts = clip_starts(facts.shots, facts.fps, count, fps, settings.clips_per_video, rng)
    if not starts:
        needed = f"where {count} frames at {fps:g} fps span {(count - 1) / fps:.2f} s"
        longest_s = max((last_s - first_s for first_s, last_s in facts.shots), default=0.0) + 1 / facts.fps
        if len(facts.shots) > 1:
            return VideoClips(
                [], f"{video}: the longest of its {len(facts.shots)} shots takes {longest_s:.2f} s {needed}"
            )
        frames = f"{facts.duration_s:.2f} s ({facts.num_frames} frames)"
        part = f", of which {longest_s:.2f} s are used" if video.whole_name != video.name else ""
        return VideoClips([], f"{video}: too short: {frames}{part} {needed}")
    return VideoClips([_measured(video, facts.aspect, settings, start_s, kept) for start_s in starts])


def _measured(
    video: Video, aspect: float, settings: ClipSettings, start_s: float, kept: Sequence[Shown] | None
) -> MeasuredClip:
    """Raises VideoError if the video ends too early; a clip with damaged frames is told: elsewhere all may be well."""
    times = [start_s + k / settings.fps for k in range(settings.num_frames)]
    try:
        if kept is not None:
            chosen, end_s = nearest(kept, times, lambda shown: replace(shown, picture=measured(shown.picture, aspect)))
            if len(chosen) < len(times):
                raise VideoError(f"{video}: too short or cut off: what can be decoded ends at {end_s:.2f} s")
            frames = undamaged(video, chosen)
        else:
            frames = read_frames(video, settings.num_frames, settings.fps, start_s, measured_frame, threads=1)
    except DamagedVideo as error:
        return MeasuredClip(start_s, error=str(error))
    motion = motion_of(frames)
    return MeasuredClip(start_s, motion.magnitude, motion.repeated, brightness_of(frames))
