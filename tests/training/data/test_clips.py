"""Where the clips of a video lie, and what is usable of a folder, with and without a search for cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobilevd.errors import UserError
from tests.training.data.numbered import write_numbered
from tests.training.data.scanned import scan_videos
from training.data.clips import clip_starts
from training.data.index import look
from training.data.index.choose import Filters
from training.data.video import read_clip, write_video
from training.data.video_stream import DamagedVideo

ONE_SHOT = [(0.0, 60 - 1 / 25)]
BOTH = pytest.mark.parametrize("shots", ["none", "pyscenedetect"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two usable videos, and one each that is text, too short, and cut off behind a header that promises 3 s."""
    root = tmp_path_factory.mktemp("videos")
    (root / "sub").mkdir()
    write_numbered(root / "b.mp4", 75, 25)
    write_numbered(root / "sub" / "a.mkv", 30, 10)
    write_numbered(root / "short.mp4", 5, 25)
    (root / "text.mp4").write_text("this is no video\n" * 100)
    options = {"movflags": "faststart"}
    cut = write_numbered(root / "cut.mp4", 75, 25, g="5", crf="4", container_options=options)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (root / "notes.txt").write_text("not looked at")
    (root / ".tmp-0123456789abcdef-half.mp4").write_text("left by a kill")
    return root


@BOTH
def test_clips_are_found_and_the_rest_is_named_and_counted(folder, shots):
    index = scan_videos(folder, 8, 7, clips_per_video=2, shots=shots)
    reasons = {item.video.name: item.reason for item in index.skipped}
    if shots == "none":
        assert [clip.video.name for clip in index.clips] == ["b.mp4", "b.mp4", "sub/a.mkv", "sub/a.mkv"]
        assert reasons.keys() == {"cut.mp4", "short.mp4", "text.mp4"}
        assert index.summary().startswith("4 clips from 2 videos; 3 files skipped: ")
    assert "cut off" in reasons["cut.mp4"]
    assert "broken or not a video" in reasons["text.mp4"]
    assert "too short: 0.20 s (5 frames) where 8 frames at 7 fps span 1.00 s" in reasons["short.mp4"] or shots != "none"
    assert all(str(folder) in reason for reason in reasons.values())


def test_every_clip_can_be_read(folder):
    for clip in scan_videos(folder, 8, 7, clips_per_video=20).clips:
        assert read_clip(clip.video, 8, 7, clip.start_s, 16, 32).shape == (8, 16, 32, 3)


def test_the_seed_decides(folder):
    index = scan_videos(folder, 8, 7, 2, seed=1)
    assert index.clips == scan_videos(folder, 8, 7, 2, seed=1).clips
    other = scan_videos(folder, 8, 7, 2, seed=2)
    assert [c.start_s for c in index.clips] != [c.start_s for c in other.clips]


def test_a_file_keeps_its_clips_when_others_come(folder, tmp_path):
    (tmp_path / "b.mp4").write_bytes((folder / "b.mp4").read_bytes())
    alone = [clip.start_s for clip in scan_videos(tmp_path, 8, 7, 2).clips]
    assert alone == [clip.start_s for clip in scan_videos(folder, 8, 7, 2).clips if clip.video.name == "b.mp4"]


def test_clips_are_spread_over_the_whole_length():
    starts = clip_starts(ONE_SHOT, 25.0, 8, 7, 10, np.random.default_rng(0))
    room_s = 60 - 1 / 25 - 1
    assert [int(start / room_s * 10) for start in starts] == list(range(10))


@pytest.mark.parametrize(("num_frames", "count"), [(7, 0), (8, 1), (9, 2), (10, 3)])
def test_a_short_video_gives_no_clip_twice(num_frames, count):
    starts = clip_starts([(0.0, (num_frames - 1) / 7)], 7.0, 8, 7, 5, np.random.default_rng(0))
    assert len(starts) == len(set(starts)) == count


def test_clips_lie_inside_shots():
    """Every clip in one shot; shots that are too short have none, longer ones have more."""
    shots = [(0.0, 0.9), (1.0, 3.0), (3.1, 4.05), (4.1, 5.1), (5.2, 15.2), (15.3, 16.3)]
    starts = clip_starts(shots, 10.0, 8, 7, 11, np.random.default_rng(0))
    of_shot = [
        [start for start in starts if first - 1e-9 <= start and start + 1 <= last + 1e-9] for first, last in shots
    ]
    assert sum(map(len, of_shot)) == len(starts) == len(set(starts)) == 11 and starts == sorted(starts)
    assert [len(found) for found in of_shot][:4:2] == [0, 0] and len(of_shot[4]) > 3 * len(of_shot[1]) > 0
    exact = clip_starts(shots[3::2], 10.0, 8, 7, 9, np.random.default_rng(0))
    assert exact == [4.1, 15.3]  # shots of just one clip
    assert clip_starts(shots, 10.0, 8, 7, 200, np.random.default_rng(0)).count(15.3) == 1


def test_folders_of_broken_files(tmp_path):
    for n in range(5):
        (tmp_path / f"{n}.mp4").touch()
    with pytest.raises(
        UserError, match="no clip is left of its 5 videos; 5 cannot be used: .*0.mp4: broken.*; and 2 more"
    ):
        scan_videos(tmp_path, 8, 7)


@BOTH
def test_filters_say_what_they_took(tmp_path, shots):
    moving = np.random.default_rng(0).integers(0, 60, (40, 36, 64, 3), dtype=np.uint8) // 4 * 4 + 60
    write_video(tmp_path / "moving.mp4", moving, 10)
    write_video(tmp_path / "slow.mp4", np.repeat(moving[:8], 5, axis=0), 10)
    write_video(tmp_path / "still.mp4", np.full((20, 36, 64, 3), 120, np.uint8), 10)
    write_video(tmp_path / "bright.mp4", np.minimum(moving, 65) + 180, 10)
    index = scan_videos(tmp_path, 8, 7, shots=shots)
    motion = {clip.video.name: clip.motion for clip in index.clips}
    assert (
        motion["moving.mp4"].repeated == 0 and motion["still.mp4"].repeated == 1 and motion["still.mp4"].magnitude == 0
    )
    assert motion["slow.mp4"].repeated == pytest.approx(6 / 7, abs=0.15)
    assert "2 clips repeat frames (" in index.summary() and not index.taken_by_filter

    def left(**filters: float) -> tuple[set[str], dict[str, int]]:
        found = scan_videos(tmp_path, 8, 7, shots=shots, filters=Filters(**filters))
        assert not found.skipped
        return {clip.video.name.removesuffix(".mp4") for clip in found.clips}, dict(found.taken_by_filter)

    assert left(min_motion=1e-4) == ({"moving", "slow", "bright"}, {"min_motion": 1})
    assert left(max_motion=motion["moving.mp4"].magnitude * 0.9)[0] == {"slow", "still", "bright"}
    assert left(max_brightness=0.6) == ({"moving", "slow", "still"}, {"max_brightness": 1})
    assert left(min_brightness=0.6) == ({"bright"}, {"min_brightness": 3})
    both = left(min_motion=1e-4, max_repeated=0.5)
    assert both == ({"moving", "bright"}, {"min_motion": 1, "max_repeated": 1})
    assert "left out: 1 by data.min_motion" in scan_videos(tmp_path, 8, 7, filters=Filters(min_motion=1e-4)).summary()
    with pytest.raises(
        UserError, match=r"left of its 4 videos; left out: 3 by data.min_motion, 1 by data.max_brightness"
    ):
        left(min_motion=motion["moving.mp4"].magnitude * 0.9, max_brightness=0.1)


def test_a_damaged_clip_is_left_out_and_the_others_of_its_file_stay(tmp_path, monkeypatch):
    write_numbered(tmp_path / "a.mp4", 75, 25)
    read_frames = look.read_frames

    def read(video, num_frames, fps, start_s, *arguments, **options):
        if start_s > 1:
            raise DamagedVideo(f"{video}: damaged")
        return read_frames(video, num_frames, fps, start_s, *arguments, **options)

    monkeypatch.setattr(look, "read_frames", read)
    index = scan_videos(tmp_path, 8, 7, clips_per_video=4)
    assert 0 < len(index.clips) < 4 and len(index.clips) + len(index.skipped) == 4
    assert all(clip.start_s <= 1 for clip in index.clips) and "clips skipped: " in index.summary()
