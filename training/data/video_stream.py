"""An opened video: the stream that a player would show, its clock, and its decoded frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer
from av.error import EOFError as EndOfStream
from av.error import FFmpegError, InvalidDataError
from av.format import Flags
from av.stream import Disposition
from av.video.stream import VideoStream

from mobilevd.errors import UserError
from training.data.file_part import FilePart
from training.data.videos import Video, as_video

PICTURE_CODECS = frozenset({"png", "apng", "bmp", "tiff", "webp", "gif", "mjpeg", "ppm"})
"""Codecs of pictures. A stream of one is a cover if there is a stream of another codec."""
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,gif,mxf,ogg,yuv4mpegpipe,mjpeg,h264,hevc,"
    "ivf,dv,wav,mp3,aac,flac"
)
"""Containers of FFmpeg that are read, by what the file holds and not by its name. Playlists are left out on purpose: they
name other files and addresses, which FFmpeg would open."""
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
OPENING: dict[str, Any] = {
    "options": OPEN_OPTIONS,
    "buffer_size": 1 << 17,
}  # bytes that Python reads for FFmpeg at once
MAX_PIXELS = 36_000_000
"""Of a frame: 8K, in which a frame takes 100 MB. A small file can claim to be of any size."""
TAIL_S = 20.0  # a search for the end of a file begins so long before what its header says


class VideoError(UserError):
    """The error for a video file that cannot give what is asked; the text names the file and the reason."""


class DamagedVideo(VideoError):
    """The error for a clip in which the decoder met errors, of a file that is readable on the whole."""


@dataclass(frozen=True)
class VideoInfo:
    """Length, rate and size from the header or, if it has none, from the packets; the size is in stored pixels."""

    duration_s: float
    fps: float  # average rate
    width: int
    height: int
    num_frames: int


@dataclass(frozen=True)
class Timed:
    """A decoded frame and the time when it is shown, in seconds from the stream's first frame."""

    time_s: float
    duration_s: float
    frame: av.VideoFrame
    damaged: bool
    """True if the decoder met an error in this frame, or in one that it may refer to: since the last keyframe."""


@contextmanager
def opened(source: Video | Path | str, threads: int | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the container and the video stream that is shown; FFmpeg's errors inside become a VideoError.

    `threads` that decode; None leaves it to FFmpeg.
    """
    video = as_video(source)
    try:
        with ExitStack() as stack:
            container = stack.enter_context(cast(InputContainer, av.open(_input(video, stack), "r", **OPENING)))
            stream = _shown_stream(video, container)
            if stream.width * stream.height > MAX_PIXELS:
                raise VideoError(
                    f"{video}: {stream.width}x{stream.height} pixels; videos of up to {MAX_PIXELS:,} are read"
                )
            if threads is not None:
                stream.thread_count = threads
            yield container, stream
    except FileNotFoundError as error:
        raise VideoError(f"{video}: no such file") from error
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"{video}: broken or not a video ({reason})") from error


def _input(video: Video, stack: ExitStack) -> Any:
    """What FFmpeg reads: the file, or the part of it."""
    if video.size is None:
        # as a file, whatever its name looks like: FFmpeg takes "tcp:..." for an address
        return f"file:{video.path.absolute()}"
    missing = video.offset + video.size - video.path.stat().st_size
    if missing > 0:
        raise VideoError(f"{video}: cut off: {video.path.name} ends {missing} bytes before it does")
    return stack.enter_context(FilePart(video.path, video.offset, video.size))


def _shown_stream(video: Video, container: InputContainer) -> VideoStream:
    """The default video stream, as players choose it. Pictures of a cover are no videos."""
    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not streams:
        only_cover = "only a cover picture" if container.streams.video else "no video stream"
        raise VideoError(f"{video}: {only_cover} in it")
    streams = [each for each in streams if each.codec_context.name not in PICTURE_CODECS] or streams
    streams = [each for each in streams if each.disposition & Disposition.default] or streams
    best = container.streams.best("video")
    return cast(VideoStream, best) if best in streams else streams[0]


def rate_of(stream: VideoStream) -> float:
    """Frames per second on average."""
    return float(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)


def is_indexed(container: InputContainer) -> bool:
    """False for MPEG streams (.ts, .mpg), where lengths are guessed from the bit rate and seeks land anywhere."""
    return not container.format.flags & Flags.ts_discont.value


def _start(stream: VideoStream) -> int:
    """The stream's own zero, in its time base: many containers do not start at 0."""
    return stream.start_time or 0


def _time_base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, 1000)


def probe(source: Video | Path | str) -> VideoInfo:
    """Read a video's length, rate and size without decoding it. Raises VideoError."""
    video = as_video(source)
    with opened(video) as (container, stream):
        fps, width, height, num_frames = rate_of(stream), stream.width, stream.height, stream.frames
        duration_s = _duration_s(container, stream)
        if not (width and height and duration_s > 0):
            raise VideoError(f"{video}: broken or not a video (size {width}x{height}, {duration_s:.2f} s long)")
        return VideoInfo(duration_s, fps, width, height, num_frames or round(duration_s * fps))


def _duration_s(container: InputContainer, stream: VideoStream) -> float:
    """Length of the stream from its first frame to the end of its last."""
    whole_s = container.duration / av.time_base if container.duration else 0.0
    if stream.duration and is_indexed(container):
        length_s = float(stream.duration * _time_base(stream))
        return min(length_s, whole_s) if whole_s > 0 else length_s  # an edit list may show less than is stored
    # Headers without a length of the stream tell when the file ends, on a clock that need not start at 0 (Matroska), or
    # nothing at all (recorded live streams): the last packets know.
    if whole_s > 2 * TAIL_S and is_indexed(container):
        container.seek(_start(stream) + int((whole_s - TAIL_S) / _time_base(stream)), stream=stream, backward=True)
    end = _last_end(container, stream)
    if end is None and whole_s > 2 * TAIL_S:  # the clock starts late, and the search was beyond its end
        container.seek(_start(stream), stream=stream, backward=True)
        end = _last_end(container, stream)
    return 0.0 if end is None else float((end - _start(stream)) * _time_base(stream))


def _last_end(container: InputContainer, stream: VideoStream) -> int | None:
    step = int(1 / rate_of(stream) / _time_base(stream))
    ends = (packet.pts + (packet.duration or step) for packet in container.demux(stream) if packet.pts is not None)
    return max(ends, default=None)


def decode(container: InputContainer, stream: VideoStream, from_s: float) -> Iterator[Timed]:
    """Decode in order of presentation, from the keyframe before `from_s`; a broken packet ends the stream."""
    time_base, step_s = _time_base(stream), 1 / rate_of(stream)
    if from_s > 0:
        container.seek(_start(stream) + int(from_s / time_base), stream=stream, backward=True)
    time_s, damaged = from_s - step_s, False
    try:
        for frame in container.decode(stream):
            pts = frame.pts if frame.pts is not None else frame.dts
            # raw streams carry no timestamps: their frames follow one another at the stream's rate
            time_s = float((pts - _start(stream)) * time_base) if pts is not None else time_s + step_s
            damaged = bool(frame.is_corrupt) or (damaged and not frame.key_frame)
            yield Timed(time_s, float(frame.duration * time_base) if frame.duration else step_s, frame, damaged)
    except (InvalidDataError, EndOfStream):
        return  # the caller counts the frames and says how many are missing
