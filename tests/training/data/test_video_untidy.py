"""Videos as phones, cameras and streams leave them: turned, HDR, with covers, late clocks and damage."""

from __future__ import annotations

import math
import socket
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from tests.training.data.numbered import HEIGHT, WIDTH, numbered_frame, read_number, write_numbered
from training.data.video import read_clip, write_video
from training.data.video_stream import VideoError, probe

MEDIA = Path(__file__).parent / "media"
# ISO 14496-12, 8.3.2: x' = a x + c y, y' = b x + d y; and what a player shows of stored pixels (H, W, 3)
SHOWN = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),  # clockwise: what was left is above
    (0, -1, 1, 0): lambda p: np.rot90(p),
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).swapaxes(0, 1),
}


def with_matrix(path: Path, *abcd: float) -> Path:
    """Write the display matrix into a file that has the unit matrix."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (round(value * 65536) for value in abcd)
    at = data.index(b"tkhd") + 44
    data[at : at + 20] = struct.pack(">5i", a, b, 0, c, d)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("matrix", SHOWN)
def test_the_whole_display_matrix_is_applied(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :32], picture[:16, 32:], picture[16:, :32] = (220, 30, 30), (30, 200, 30), (30, 30, 220)
    path = with_matrix(write_video(tmp_path / "a.mp4", np.stack([picture] * 3), 10), *matrix)
    expected = SHOWN[matrix](picture)
    shown = read_clip(path, 1, 10, 0.0, *expected.shape[:2])[0]
    assert np.abs(shown.astype(int) - expected).mean() < 4


def test_another_angle_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", np.zeros((3, 32, 64, 3), np.uint8), 10)
    with pytest.raises(VideoError, match="a.mp4: .*no multiple of 90 degrees; convert it first"):
        read_clip(with_matrix(path, 0.7071, 0.7071, -0.7071, 0.7071), 1, 10, 0.0, 32, 64)


@pytest.mark.parametrize("name", ["hlg", "pq"])
def test_hdr_is_shown_as_sdr(name: str) -> None:
    expected = np.asarray(Image.open(MEDIA / f"{name}_sdr.png").convert("RGB")).astype(int)
    shown = read_clip(MEDIA / f"{name}.mp4", 1, 10, 0.0, *expected.shape[:2])[0]
    assert np.abs(shown - expected).max() <= 3


def encode(path: Path, frame: av.VideoFrame, **tags: int) -> Path:
    """A frame three times, losslessly, with tags of colour."""
    with av.open(str(path), "w") as container:
        stream = cast(VideoStream, container.add_stream("libx264", rate=10, options={"qp": "0"}))
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for number in range(3):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def flat(width: int, height: int, rgb: tuple[int, int, int], matrix: Colorspace, full: bool = False) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), rgb, np.uint8), format="rgb24")
    color_range = ColorRange.JPEG if full else ColorRange.MPEG
    return frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=color_range)


@pytest.mark.parametrize(
    ("width", "height", "matrix"), [(1280, 720, Colorspace.ITU709), (640, 480, Colorspace.ITU601), (720, 576, 5)]
)
def test_without_a_tag_the_size_tells_the_matrix(tmp_path: Path, width: int, height: int, matrix: Colorspace) -> None:
    path = encode(tmp_path / "a.mp4", flat(width, height, (40, 180, 60), matrix))
    assert np.abs(read_clip(path, 1, 10, 0.0, 16, 16)[0].astype(int) - (40, 180, 60)).max() <= 3


@pytest.mark.parametrize(("tag", "matrix"), [(1, Colorspace.ITU709), (6, Colorspace.ITU601)])
@pytest.mark.parametrize("full", [False, True])
def test_tags_are_followed(tmp_path: Path, tag: int, matrix: Colorspace, full: bool) -> None:
    frame = flat(320, 160, (40, 180, 60), matrix, full)
    path = encode(tmp_path / "a.mp4", frame, colorspace=tag, color_range=2 if full else 1)
    assert np.abs(read_clip(path, 1, 10, 0.0, 16, 16)[0].astype(int) - (40, 180, 60)).max() <= 3


def test_wide_colours_come_into_the_screens_range(tmp_path: Path) -> None:
    """BT.2020 and P3 in SDR: greys stay, and a colour becomes more saturated, for the same numbers mean more there."""
    for primaries in (9, 12):
        for rgb, stays in (((128, 128, 128), True), ((60, 160, 60), False)):
            path = tmp_path / f"{primaries}-{stays}.mp4"
            encode(path, flat(320, 160, rgb, Colorspace.ITU709), colorspace=1, color_primaries=primaries, color_range=1)
            shown = read_clip(path, 1, 10, 0.0, 16, 16)[0][8, 8].astype(int)
            if stays:
                assert np.abs(shown - rgb).max() <= 2
            else:
                assert shown[0] < 55 and shown[1] > 160


@pytest.mark.parametrize(("tags", "text"), [({"color_trc": 8}, "linear light"), ({"colorspace": 14}, "ICtCp")])
def test_colours_that_are_not_converted_are_named(tmp_path: Path, tags: dict[str, int], text: str) -> None:
    path = encode(tmp_path / "a.mp4", flat(64, 32, (40, 180, 60), Colorspace.ITU709), **tags)
    with pytest.raises(VideoError, match=f"a.mp4: .*{text}.*; convert it first"):
        read_clip(path, 1, 10, 0.0, 32, 64)


def test_what_is_written_is_tagged(tmp_path: Path) -> None:
    for (height, width), tag in (((64, 128), 6), ((720, 1280), 1)):
        path = write_video(tmp_path / f"{tag}.mp4", np.full((2, height, width, 3), (40, 180, 60), np.uint8), 8)
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range, frame.color_primaries) == (tag, 1, 1)
        assert np.abs(read_clip(path, 1, 8, 0.0, 16, 16)[0].astype(int) - (40, 180, 60)).max() <= 3


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libx264"), ("webm", "libvpx"), ("mp4", "libx264"), ("ts", "libx264")]
)
@pytest.mark.parametrize("late_s", [5, 3000])
def test_a_clock_that_starts_late(tmp_path: Path, suffix: str, codec: str, late_s: int) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    times = [late_s + Fraction(n, 25) for n in range(75)]
    options: dict[str, Any] = {"crf": "4", "b": "2M"} if codec == "libvpx" else {}
    path = write_numbered(tmp_path / f"a.{suffix}", 75, 25, codec, times=times, g="20", **options)
    assert probe(path).duration_s == pytest.approx(3.0, abs=0.1)
    for start_s in (0.0, 1.5):
        shown = [read_number(frame) for frame in read_clip(path, 4, 5, start_s, HEIGHT, WIDTH)]
        assert shown == [math.ceil((start_s + k / 5) * 25 - 0.5) for k in range(4)]
    with pytest.raises(VideoError, match="too short or cut off"):
        read_clip(path, 4, 5, 2.6, HEIGHT, WIDTH)


def two_streams(path: Path, first: VideoKind, second: VideoKind) -> Path:
    with av.open(str(path), "w") as container:
        streams = []
        for codec, disposition, level in (first, second):
            stream = cast(VideoStream, container.add_stream(codec, rate=10))
            stream.width, stream.height, stream.pix_fmt = 64, 32, FORMATS[codec]
            stream.disposition = disposition
            streams.append((stream, level, 20 if codec == "libx264" else 1))
        for stream, level, count in streams:
            for _ in range(count):
                pixels = np.full((32, 64, 3), level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
    return path


VideoKind = tuple[str, Disposition, int]
NONE = Disposition(0)
FORMATS = {"libx264": "yuv420p", "png": "rgb24", "mjpeg": "yuvj420p"}


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("two.mkv", ("libx264", NONE, 30), ("libx264", Disposition.default, 200)),
        ("track.mkv", ("mjpeg", NONE, 30), ("libx264", Disposition.default, 200)),
        ("picture_as_default.mkv", ("mjpeg", Disposition.default, 30), ("libx264", NONE, 200)),
        ("cover.mp4", ("png", Disposition.attached_pic, 30), ("libx264", Disposition.default, 200)),
        ("cover_last.mp4", ("libx264", Disposition.default, 200), ("png", Disposition.attached_pic, 30)),
    ],
)
def test_the_stream_that_players_show(tmp_path: Path, name: str, first: VideoKind, second: VideoKind) -> None:
    path = two_streams(tmp_path / name, first, second)
    assert probe(path).duration_s == pytest.approx(2.0, abs=0.1)
    assert read_clip(path, 2, 5, 1.0, 16, 32).mean() == pytest.approx(200, abs=3)


def test_a_cover_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        cover = cast(VideoStream, container.add_stream("png", rate=1))
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 64, 64, "rgb24", Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(cover.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = 44100
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with pytest.raises(VideoError, match="song.mp4: only a cover picture in it"):
        probe(path)


def test_damage_breaks_the_clips_that_show_it_and_no_others(tmp_path: Path) -> None:
    """Bytes in the middle of a packet are overwritten; the decoder conceals it, and all frames up to the next keyframe."""
    path = write_numbered(tmp_path / "a.mp4", 90, 30, g="30", crf="4", sc_threshold="0", bf="2")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos]
    hurt = packets[40]  # of the second group of pictures, frames 30 to 59
    data = bytearray(path.read_bytes())
    begin, end = cast(int, hurt.pos) + hurt.size // 4, cast(int, hurt.pos) + hurt.size
    data[begin:end] = np.random.default_rng(0).bytes(end - begin)
    path.write_bytes(data)
    for start_s in (0.0, 2.1):  # the first and the third group
        shown = [read_number(frame) for frame in read_clip(path, 5, 10, start_s, HEIGHT, WIDTH)]
        assert shown == [round((start_s + k / 10) * 30) for k in range(5)]
    with pytest.raises(VideoError, match="a.mp4: damaged: the decoder met errors in the frame at 1"):
        read_clip(path, 5, 10, 1.4, HEIGHT, WIDTH)


def test_a_name_that_looks_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", np.stack([numbered_frame(5)] * 3), 10)
    (tmp_path / "a.mp4").rename("tcp:127.0.0.1:9.mp4")
    assert read_number(read_clip("tcp:127.0.0.1:9.mp4", 1, 10, 0.0, HEIGHT, WIDTH)[0]) == 5


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:{port}/x.ts\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile 'http://127.0.0.1:{port}/x.mp4'\n",
    "concat of a file": "ffconcat version 1.0\nfile '{secret}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>http://127.0.0.1:{port}/x.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_opens_nothing(tmp_path: Path, kind: str) -> None:
    secret = write_video(tmp_path / "secret.mp4", np.stack([numbered_frame(5)] * 3), 10)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        playlist = tmp_path / "video.mp4"
        playlist.write_text(PLAYLISTS[kind].format(port=server.getsockname()[1], secret=secret))
        for read in (probe, lambda path: read_clip(path, 1, 10, 0.0, HEIGHT, WIDTH)):
            with pytest.raises(VideoError, match="video.mp4: broken or not a video"):
                read(playlist)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_video_of_absurd_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", np.stack([numbered_frame(5)] * 3), 10)
    monkeypatch.setattr("training.data.video_stream.MAX_PIXELS", 1000)
    for read in (probe, lambda path: read_clip(path, 1, 10, 0.0, HEIGHT, WIDTH)):
        with pytest.raises(VideoError, match="a.mp4: 64x32 pixels; videos of up to 1,000 are read"):
            read(path)
