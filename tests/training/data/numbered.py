"""Videos whose frames carry their own number, as eight black or white columns: what was read can be told exactly."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.stream import VideoStream

HEIGHT, WIDTH, BITS = 32, 64, 8


def numbered_frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 (H, W, 3): column k is white where bit k of `number` is set."""
    bits = (number >> np.arange(BITS)) & 1
    row = np.repeat(bits, width // BITS).astype(np.uint8) * 255
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def read_number(frame: np.ndarray) -> int:
    """The number of a frame (H, W, 3) of any size."""
    columns = frame.reshape(frame.shape[0], BITS, -1, 3).mean((0, 2, 3))
    return int(((columns > 127) << np.arange(BITS)).sum())


def write_numbered(
    path: Path,
    num_frames: int,
    rate: Fraction | int,
    codec: str = "libx264",
    times: list[Fraction] | None = None,
    container_options: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Write frames 0 .. num_frames - 1, frame n shown at n / rate, or at times[n] (a variable rate)."""
    if codec == "libx264":
        options = {"preset": "veryfast"} | options  # still with B-frames, which "ultrafast" is not
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=rate, options=cast(Any, options)))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
