"""Reading and writing video files: frames by timestamp, any container and rate, clear words about bad files."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mobilevd.errors import UserError
from tests.training.data.numbered import HEIGHT, WIDTH, numbered_frame, read_number, write_numbered
from training.data.video import read_clip, write_video
from training.data.video_stream import VideoError, probe

RATES = [Fraction(10), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60)]
FORMATS = [
    ("mp4", "libx264", {}),
    ("mov", "libx264", {}),
    ("mkv", "libx264", {}),
    ("ts", "libx264", {}),  # does not start at 0 and has no index
    ("avi", "mpeg4", {"qscale": "2"}),
    ("mpg", "mpeg2video", {"qscale": "2"}),
    ("webm", "libvpx", {"crf": "4", "b": "2M"}),
]


def numbers(path: Path, num_frames: int, fps: float, start_s: float) -> list[int]:
    clip = read_clip(path, num_frames, fps, start_s, HEIGHT, WIDTH)
    assert clip.shape == (num_frames, HEIGHT, WIDTH, 3) and clip.dtype == np.uint8
    return [read_number(frame) for frame in clip]


def nearest(rate: float, num_frames: int, fps: float, start_s: float, last: int) -> list[int]:
    """Frame numbers nearest to the asked times, the earlier of two as near."""
    times = start_s + np.arange(num_frames) / fps
    return [min(last, math.ceil(time * rate - 0.5 - 1e-6)) for time in times]


def cut_in_the_middle(path: Path) -> None:
    """Cut the file where the middle one of its packets begins."""
    with av.open(str(path)) as container:
        positions = sorted(packet.pos for packet in container.demux() if packet.pos)
    path.write_bytes(path.read_bytes()[: positions[len(positions) // 2]])


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{float(rate):.3f}")
def test_frames_are_those_nearest_in_time(tmp_path, rate):
    last = int(3 * rate) - 1
    path = write_numbered(tmp_path / "a.mp4", last + 1, rate)
    for start_s in (0.0, 0.31, 1.7):
        assert numbers(path, 8, 7, start_s) == nearest(float(rate), 8, 7, start_s, last)


@pytest.mark.parametrize(("suffix", "codec", "options"), FORMATS, ids=[f[0] for f in FORMATS])
def test_containers(tmp_path, suffix, codec, options):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    path = write_numbered(tmp_path / f"a.{suffix}", 75, 25, codec, g="20", **options)
    info = probe(path)
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    assert info.fps == pytest.approx(25, abs=0.1) and info.duration_s == pytest.approx(3.0, abs=0.1)
    assert numbers(path, 8, 7, 0.0) == nearest(25, 8, 7, 0.0, 74)
    assert numbers(path, 8, 7, 1.5) == nearest(25, 8, 7, 1.5, 74)


def test_a_recorded_stream_without_a_length(tmp_path):
    path = write_numbered(tmp_path / "a.mkv", 75, 25, container_options={"live": "1"}, g="20")
    assert probe(path).duration_s == pytest.approx(3.0, abs=0.05) and probe(path).num_frames in (74, 75)
    assert numbers(path, 8, 7, 1.5) == nearest(25, 8, 7, 1.5, 74)


def test_variable_rate_goes_by_time_not_by_index(tmp_path):
    slow = [Fraction(n, 5) for n in range(10)]  # two seconds at 5 fps, then one at 30
    times = slow + [2 + Fraction(n, 30) for n in range(30)]
    path = write_numbered(tmp_path / "a.mkv", len(times), 30, times=times)
    expected = [min(range(len(times)), key=lambda n: abs(times[n] - Fraction(k, 7))) for k in range(20)]
    assert numbers(path, 20, 7, 0.0) == expected


def test_a_slower_file_repeats_frames(tmp_path):
    path = write_numbered(tmp_path / "a.mp4", 8, 4)
    assert numbers(path, 8, 8, 0.0) == nearest(4, 8, 8, 0.0, 7)


def test_exactly_long_enough_is_enough_and_one_more_is_not(tmp_path):
    path = write_numbered(tmp_path / "a.mp4", 8, 7)
    assert numbers(path, 8, 7, 0.0) == list(range(8))
    with pytest.raises(VideoError, match=r"a\.mp4: too short or cut off: 8 of the 9 frames asked .* 1\.14 s"):
        read_clip(path, 9, 7, 0.0, HEIGHT, WIDTH)
    with pytest.raises(VideoError, match="0 of the 2 frames"):
        read_clip(path, 2, 7, 60.0, HEIGHT, WIDTH)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_cut_off_file_names_itself_and_what_was_found(tmp_path, suffix):
    options = {"movflags": "faststart"} if suffix == "mp4" else {}  # the index in front survives the cut
    path = write_numbered(tmp_path / f"a.{suffix}", 75, 25, g="5", crf="4", container_options=options)
    cut_in_the_middle(path)
    assert numbers(path, 4, 7, 0.0) == nearest(25, 4, 7, 0.0, 74)  # the first half is still good
    with pytest.raises(VideoError, match=rf"a\.{suffix}: too short or cut off: \d of the 8 frames"):
        read_clip(path, 8, 7, 1.5, HEIGHT, WIDTH)


def test_what_is_no_video_is_named(tmp_path):
    whole = write_numbered(tmp_path / "a.mp4", 25, 25)
    headless = tmp_path / "headless.mp4"  # the index is at the end, and gone
    headless.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    text = tmp_path / "x.mp4"
    text.write_text("this is no video\n" * 100)
    (tmp_path / "empty.mp4").touch()
    for path in (headless, text, tmp_path / "empty.mp4"):
        for read in (probe, lambda path: read_clip(path, 8, 7, 0.0, HEIGHT, WIDTH)):
            with pytest.raises(VideoError, match=f"{path.name}: broken or not a video"):
                read(path)
    with pytest.raises(UserError, match="gone.mp4: no such file"):
        probe(tmp_path / "gone.mp4")


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match="a.wav: no video stream"):
        probe(path)


def test_crop_is_in_the_middle_and_keeps_the_aspect(tmp_path):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[16:48] = 255  # exactly the middle half, which a 1:2 crop keeps
    path = write_video(tmp_path / "a.mp4", np.stack([picture] * 4), 10)
    assert read_clip(path, 2, 10, 0.0, 16, 32)[:, 1:-1].min() > 240
    tall = read_clip(path, 2, 10, 0.0, 64, 32)
    assert tall[0, :12].max() < 15 and tall[0, 20:44].min() > 240


def test_reduction_does_not_alias(tmp_path):
    stripes = np.zeros((64, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    path = write_video(tmp_path / "a.mp4", np.stack([stripes] * 2), 10)
    small = read_clip(path, 1, 10, 0.0, 16, 32)[0].astype(float)
    assert abs(small.mean() - 127) < 12 and small[2:-2, 2:-2].std() < 8  # grey, where picking pixels gives stripes


def test_writing_reads_back_nearly_the_same(tmp_path):
    clip = np.stack([numbered_frame(n) for n in range(12)])
    path = write_video(tmp_path / "sub" / "a.mp4", clip, 7)
    info = probe(path)
    assert (info.num_frames, info.fps, info.width, info.height) == (12, 7.0, WIDTH, HEIGHT)
    assert info.duration_s == pytest.approx(12 / 7, abs=0.01)
    again = read_clip(path, 12, 7, 0.0, HEIGHT, WIDTH)
    assert np.abs(again.astype(int) - clip).mean() < 3
    assert write_video(tmp_path / "b.mp4", clip, 7).read_bytes() == path.read_bytes()
    assert not list(path.parent.glob(".tmp-*"))


def test_bad_writing_leaves_nothing(tmp_path):
    clip = np.zeros((2, 31, 64, 3), np.uint8)
    with pytest.raises(VideoError, match="even height and width, not 31x64"):
        write_video(tmp_path / "a.mp4", clip, 7)
    with pytest.raises(VideoError, match="above 0, not 0"):
        write_video(tmp_path / "a.mp4", clip[:, :30], 0)
    with pytest.raises(VideoError, match="a.nonsense: cannot be written"):
        write_video(tmp_path / "a.nonsense", clip[:, :30], 7)
    assert not list(tmp_path.iterdir())


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    """A run that is made anew must train on the same pixels; x264's look-ahead broke that for this very clip."""
    from training.data.scenes import render_scene

    clip = render_scene(77_000_001, 8, 32, 64, 8)
    files = {write_video(tmp_path / f"{i}.mp4", clip, 8).read_bytes() for i in range(12)}
    assert len(files) == 1
