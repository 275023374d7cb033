"""Video files in and out through PyAV: any container and frame rate; frames are chosen by timestamp."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, TypeVar, cast

import av
import numpy as np
from av.error import FFmpegError
from av.video.stream import VideoStream

from mobilevd.files import atomic_file
from mobilevd.resample import centre_box, resampled
from training.data.display_matrix import UnknownMatrix, swaps_sides, turn_of, turned
from training.data.video_colour import UnknownColour, from_rgb, tag_colours, to_rgb
from training.data.video_place import MARK
from training.data.video_stream import DamagedVideo, Timed, VideoError, decode, is_indexed, opened, rate_of
from training.data.videos import Video, as_video

# Containers index keyframes by decoding time, which runs ahead of presentation time by the reordering of
# B-frames: a seek aims this much early, so that the wanted frame is not already past.
SEEK_MARGIN_S = 0.5


FramePicture = Callable[[av.VideoFrame, float], np.ndarray]
"""Makes uint8 (H, W, 3) of a decoded frame and the aspect of its pixels, width / height."""


def read_clip(
    source: Video | Path | str,
    num_frames: int,
    fps: float,
    start_s: float,
    height: int,
    width: int,
    crop: float | None = None,
) -> np.ndarray:
    """Read the frames shown nearest to start_s + k / fps: the rectangle of width / height `crop` in their centre, resized.

    Without `crop` it is the asked size's; another one is stretched to that size.

    Times count from the video's first frame, whatever its own rate; a slower file repeats frames, as a player
    would.

    Returns uint8 (T, H, W, 3), RGB, of SDR. Raises VideoError if the file is broken or ends too early, for frames that the
    decoder found damaged, and for colours that cannot be converted.
    """

    def picture(frame: av.VideoFrame, pixel_aspect: float) -> np.ndarray:
        return _picture(frame, height, width, pixel_aspect, crop)

    return read_frames(source, num_frames, fps, start_s, picture)


def read_frames(
    source: Video | Path | str,
    num_frames: int,
    fps: float,
    start_s: float,
    picture: FramePicture,
    threads: int | None = None,
) -> np.ndarray:
    """`read_clip` with another way to make pictures of frames, and `threads` that decode; None leaves it to FFmpeg."""
    video = as_video(source)
    times = [start_s + k / fps for k in range(num_frames)]
    with conversion_errors(video):
        with opened(video, threads) as (container, stream):
            half_frame_s = 0.5 / rate_of(stream)
            from_s = max(0.0, start_s - SEEK_MARGIN_S) if is_indexed(container) else 0.0
            chosen, end_s = nearest(decode(container, stream, from_s), times, _reader(stream, picture))
        if from_s > 0 and (not chosen or chosen[0].time_s > start_s + half_frame_s):
            # the file's index led past the wanted frame, or nowhere: decode from the beginning
            with opened(video, threads) as (container, stream):
                chosen, end_s = nearest(decode(container, stream, 0.0), times, _reader(stream, picture))
    if len(chosen) < num_frames:
        raise VideoError(
            f"{video}: too short or cut off: {len(chosen)} of the {num_frames} frames asked were found at {fps:g} "
            f"fps from {start_s:.2f} s; what can be decoded ends at {end_s:.2f} s"
        )
    return undamaged(video, chosen)


@contextmanager
def conversion_errors(video: Video) -> Iterator[None]:
    """Turn colours and display matrices that cannot be converted into a VideoError."""
    try:
        yield
    except (UnknownColour, UnknownMatrix) as error:
        raise VideoError(f"{video}: {error}; convert it first") from None


@dataclass(frozen=True)
class Shown:
    """A frame that was chosen, at the size that was asked for; the decoded one is let go at once."""

    time_s: float
    duration_s: float
    damaged: bool
    picture: np.ndarray


def undamaged(video: Video, frames: list[Shown]) -> np.ndarray:
    """The pictures of a clip, uint8 (T, H, W, 3). Raises DamagedVideo if the decoder met errors in one."""
    if (damaged := next((shown for shown in frames if shown.damaged), None)) is not None:
        raise DamagedVideo(
            f"{video}: damaged: the decoder met errors in the frame at {damaged.time_s:.2f} s or before it"
        )
    return np.stack([shown.picture for shown in frames])


def _reader(stream: VideoStream, picture: FramePicture) -> Callable[[Timed], Shown]:
    aspect = pixel_aspect(stream)
    return lambda timed: Shown(timed.time_s, timed.duration_s, timed.damaged, picture(timed.frame, aspect))


def pixel_aspect(stream: VideoStream) -> float:
    """Width / height of a stored pixel as it is shown."""
    return float(stream.sample_aspect_ratio or 1)


class _Timed(Protocol):
    @property
    def time_s(self) -> float: ...

    @property
    def duration_s(self) -> float: ...


Frame = TypeVar("Frame", bound=_Timed)


def nearest(
    frames: Iterable[Frame], times: Sequence[float], read: Callable[[Frame], Shown]
) -> tuple[list[Shown], float]:
    """Return the frame nearest to each of the rising `times`, as far as the video goes, and where decoding ended.

    The last frame is shown for its duration: a time after that is not in the video.
    """
    chosen: list[Shown] = []
    last: tuple[Frame, Shown] | None = None

    def choose(timed: Frame) -> None:
        nonlocal last
        if last is None or last[0] is not timed:
            last = timed, read(timed)
        chosen.append(last[1])

    previous: Frame | None = None
    for current in frames:
        while len(chosen) < len(times) and times[len(chosen)] <= current.time_s:
            time_s = times[len(chosen)]
            earlier = previous is not None and time_s - previous.time_s <= current.time_s - time_s
            choose(previous if previous is not None and earlier else current)
        previous = current
        if len(chosen) == len(times):
            break
    if previous is None:
        return chosen, 0.0
    end_s = previous.time_s + previous.duration_s
    while len(chosen) < len(times) and times[len(chosen)] < end_s - 1e-6:
        choose(previous)
    return chosen, end_s


def _picture(frame: av.VideoFrame, height: int, width: int, pixel_aspect: float, crop: float | None) -> np.ndarray:
    """Convert a frame to upright RGB pixels, uint8 (H, W, 3): its centre, cropped and resized (`fitted`)."""
    turn = turn_of(frame)
    pixels = turned(to_rgb(frame), turn)  # phones store a turned or mirrored picture
    return fitted(pixels, height, width, 1 / pixel_aspect if swaps_sides(turn) else pixel_aspect, crop)


def fitted(pixels: np.ndarray, height: int, width: int, pixel_aspect: float, crop: float | None = None) -> np.ndarray:
    """The centre of uint8 (H, W, 3) of width / height `crop` as shown (None: the asked size's), at `height` x `width`."""
    rows, columns = pixels.shape[:2]
    box = centre_box(rows, columns, (crop or width / height) / pixel_aspect)  # in stored pixels
    return resampled(pixels, height, width, box)


def _encoder() -> tuple[str, dict[str, str]]:
    """H.264 if this FFmpeg has x264, else MPEG-4; nearly lossless, because tiny pictures suffer most from coding."""
    if "libx264" in av.codecs_available:
        # No look-ahead: with it the same tiny frames gave one of several files (seen at 64x32, one thread).
        return "libx264", {"crf": "12", "preset": "medium", "x264-params": "no-mbtree=1:rc-lookahead=0"}
    return "mpeg4", {"qscale": "2"}


def write_video(path: Path | str, clip: np.ndarray, fps: float, order: Iterable[int] | None = None) -> Path:
    """Write uint8 (T, H, W, 3) RGB frames as H.264, 4:2:0; the container follows the suffix; atomic.

    `order` holds the numbers of the frames as they are shown, some perhaps several times; None: each once, in their order.

    Tagged with the matrix that players assume for its size, BT.601 or BT.709, in limited range.

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
                tag_colours(stream.codec_context, width, height)
                for i in range(len(clip)) if order is None else order:
                    container.mux(stream.encode(from_rgb(clip[i])))
                container.mux(stream.encode(None))
        except (FFmpegError, ValueError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise  # `atomic_file` has the clearer message
            raise VideoError(f"{path}: cannot be written as {codec} video: {error}") from error
    return path
