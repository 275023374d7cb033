"""Video files in and out through PyAV: any container and frame rate; frames are chosen by timestamp."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.error import EOFError as EndOfStream
from av.error import FFmpegError, InvalidDataError
from av.format import Flags
from av.video.stream import VideoStream
from PIL import Image

from mobilevd.errors import UserError
from mobilevd.files import atomic_file
from training.data.video_place import MARK

# Containers index keyframes by decoding time, which runs ahead of presentation time by the reordering of
# B-frames: a seek aims this much early, so that the wanted frame is not already past.
SEEK_MARGIN_S = 0.5


class VideoError(UserError):
    """The error for a video file that cannot give what is asked; the text names the file and the reason."""


@dataclass(frozen=True)
class VideoInfo:
    """Length, rate and size from the header or, if it has none, from the packets; the size is in stored pixels."""

    duration_s: float
    fps: float  # average rate
    width: int
    height: int
    num_frames: int


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the container and its first video stream; FFmpeg's errors inside become a VideoError."""
    try:
        with cast(InputContainer, av.open(str(path), "r")) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: no video stream in it")
            yield container, container.streams.video[0]
    except FileNotFoundError as error:
        raise VideoError(f"{path}: no such file") from error
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"{path}: broken or not a video ({reason})") from error


def _rate(stream: VideoStream) -> float:
    return float(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)


def _indexed(container: InputContainer) -> bool:
    """False for MPEG streams (.ts, .mpg), where lengths are guessed from the bit rate and seeks land anywhere."""
    return not container.format.flags & Flags.ts_discont.value


def _start(stream: VideoStream) -> int:
    """The stream's own zero, in its time base: many containers do not start at 0."""
    return stream.start_time or 0


def probe(path: Path | str) -> VideoInfo:
    """Read a file's length, rate and size without decoding it. Raises VideoError."""
    path = Path(path)
    with _opened(path) as (container, stream):
        fps, time_base = _rate(stream), stream.time_base or Fraction(1, 1000)
        width, height, num_frames = stream.width, stream.height, stream.frames
        if stream.duration and _indexed(container):
            duration_s = float(stream.duration * time_base)
        elif container.duration and _indexed(container):
            duration_s = container.duration / av.time_base
        else:  # a recorded live stream has no length in its header either
            ends = [p.pts + (p.duration or 0) for p in container.demux(stream) if p.pts is not None]
            duration_s = float((max(ends, default=_start(stream)) - _start(stream)) * time_base)
        if not (width and height and duration_s > 0):
            raise VideoError(f"{path}: broken or not a video (size {width}x{height}, {duration_s:.2f} s long)")
        return VideoInfo(duration_s, fps, width, height, num_frames or round(duration_s * fps))


@dataclass(frozen=True)
class _Timed:
    """A decoded frame and the time when it is shown, in seconds from the stream's start."""

    time_s: float
    duration_s: float
    frame: av.VideoFrame


def _decode(container: InputContainer, stream: VideoStream, from_s: float) -> Iterator[_Timed]:
    """Decode in order of presentation, from the keyframe before `from_s`; a broken packet ends the stream."""
    time_base, step_s = stream.time_base or Fraction(1, 1000), 1 / _rate(stream)
    if from_s > 0:
        container.seek(_start(stream) + int(from_s / time_base), stream=stream, backward=True)
    time_s = from_s - step_s
    try:
        for frame in container.decode(stream):
            pts = frame.pts if frame.pts is not None else frame.dts
            # raw streams carry no timestamps: their frames follow one another at the stream's rate
            time_s = float((pts - _start(stream)) * time_base) if pts is not None else time_s + step_s
            yield _Timed(time_s, float(frame.duration * time_base) if frame.duration else step_s, frame)
    except (InvalidDataError, EndOfStream):
        return  # the caller counts the frames and says how many are missing


def read_clip(path: Path | str, num_frames: int, fps: float, start_s: float, height: int, width: int) -> np.ndarray:
    """Read the frames shown nearest to start_s + k / fps; centre crop to the asked aspect, then resize.

    Times count from the file's first frame, whatever its own rate; a slower file repeats frames, as a player
    would.

    Returns uint8 (T, H, W, 3), RGB. Raises VideoError if the file is broken or ends too early.
    """
    path = Path(path)
    times = [start_s + k / fps for k in range(num_frames)]
    with _opened(path) as (container, stream):
        aspect, half_frame_s = float(stream.sample_aspect_ratio or 1), 0.5 / _rate(stream)
        from_s = max(0.0, start_s - SEEK_MARGIN_S) if _indexed(container) else 0.0
        chosen, end_s = _nearest(_decode(container, stream, from_s), times)
    if from_s > 0 and (not chosen or chosen[0].time_s > start_s + half_frame_s):
        # the file's index led past the wanted frame, or nowhere: decode from the beginning
        with _opened(path) as (container, stream):
            chosen, end_s = _nearest(_decode(container, stream, 0.0), times)
    if len(chosen) < num_frames:
        raise VideoError(
            f"{path}: too short or cut off: {len(chosen)} of the {num_frames} frames asked were found at {fps:g} "
            f"fps from {start_s:.2f} s; what can be decoded ends at {end_s:.2f} s"
        )
    pictures = {id(timed): _picture(timed.frame, height, width, aspect) for timed in chosen}
    return np.stack([pictures[id(timed)] for timed in chosen])


def _nearest(frames: Iterator[_Timed], times: list[float]) -> tuple[list[_Timed], float]:
    """Return the frame nearest to each of the rising `times`, as far as the video goes, and where decoding ended.

    The last frame is shown for its duration: a time after that is not in the video.
    """
    chosen: list[_Timed] = []
    previous: _Timed | None = None
    for current in frames:
        while len(chosen) < len(times) and times[len(chosen)] <= current.time_s:
            time_s = times[len(chosen)]
            earlier = previous is not None and time_s - previous.time_s <= current.time_s - time_s
            chosen.append(previous if previous is not None and earlier else current)
        previous = current
        if len(chosen) == len(times):
            break
    if previous is None:
        return chosen, 0.0
    end_s = previous.time_s + previous.duration_s
    while len(chosen) < len(times) and times[len(chosen)] < end_s - 1e-6:
        chosen.append(previous)
    return chosen, end_s


def _picture(frame: av.VideoFrame, height: int, width: int, pixel_aspect: float) -> np.ndarray:
    """Convert a frame to upright RGB pixels: centre crop to the asked aspect, antialiased resize. uint8 (H, W, 3)."""
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))  # phones store a turned picture
    if round(frame.rotation / 90) % 2:
        pixel_aspect = 1 / pixel_aspect
    rows, columns = pixels.shape[:2]
    aspect = width / height / pixel_aspect  # aspect of the crop, in stored pixels
    crop_width, crop_height = min(columns, rows * aspect), min(rows, columns / aspect)
    left, top = (columns - crop_width) / 2, (rows - crop_height) / 2
    box = (left, top, left + crop_width, top + crop_height)
    # PIL widens its kernel with the reduction, so nothing aliases; at the same size it copies
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def _encoder() -> tuple[str, dict[str, str]]:
    """H.264 if this FFmpeg has x264, else MPEG-4; nearly lossless, because tiny pictures suffer most from coding."""
    if "libx264" in av.codecs_available:
        # No look-ahead: with it the same tiny frames gave one of several files (seen at 64x32, one thread).
        return "libx264", {"crf": "12", "preset": "medium", "x264-params": "no-mbtree=1:rc-lookahead=0"}
    return "mpeg4", {"qscale": "2"}


def write_video(path: Path | str, clip: np.ndarray, fps: float) -> Path:
    """Write uint8 (T, H, W, 3) RGB frames as H.264, 4:2:0; the container follows the suffix; atomic.

    One thread, so that the same frames give the same file on every machine. Raises VideoError for an odd
    size.
    """
    path = Path(path)
    if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8 or not len(clip):
        raise ValueError(f"a clip is uint8 (T, H, W, 3) with T >= 1, not {clip.dtype} {clip.shape}")
    height, width = clip.shape[1:3]
    if height % 2 or width % 2:
        raise VideoError(f"{path}: 4:2:0 video needs an even height and width, not {height}x{width}")
    if not math.isfinite(fps) or fps <= 0:
        raise VideoError(f"{path}: the frame rate must be above 0, not {fps}")
    codec, options = _encoder()
    with atomic_file(path) as temporary:
        try:
            with av.open(str(temporary), "w") as container:
                container.metadata["comment"] = MARK
                rate = Fraction(fps).limit_denominator(1001)  # 24000/1001 and its like stay exact
                stream = cast(VideoStream, container.add_stream(codec, rate=rate, options=options))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.thread_count = 1
                for pixels in clip:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode(None))
        except (FFmpegError, ValueError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise  # `atomic_file` has the clearer message
            raise VideoError(f"{path}: cannot be written as {codec} video: {error}") from error
    return path
