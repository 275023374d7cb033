"""Scanning a folder of videos: what is usable, what is skipped and why, and where the clips lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobilevd.errors import UserError
from tests.training.data.numbered import write_numbered
from training.data import clips
from training.data.clips import clip_starts, find_videos, scan_videos
from training.data.video import read_clip, write_video
from training.data.video_stream import DamagedVideo, VideoInfo


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


def test_clips_are_found_and_the_rest_is_named_and_counted(folder):
    seen = []
    index = scan_videos(folder, 8, 7, clips_per_video=2, progress=lambda done, total: seen.append((done, total)))
    names = [clip.path.relative_to(folder).as_posix() for clip in index.clips]
    assert names == ["b.mp4", "b.mp4", "sub/a.mkv", "sub/a.mkv"]
    reasons = {item.path.name: item.reason for item in index.skipped}
    assert reasons.keys() == {"cut.mp4", "short.mp4", "text.mp4"}
    assert "too short or cut off" in reasons["cut.mp4"]
    assert "too short: 0.20 s (5 frames) where 8 frames at 7 fps span 1.00 s" in reasons["short.mp4"]
    assert "broken or not a video" in reasons["text.mp4"]
    assert all(str(folder) in reason for reason in reasons.values())
    assert index.summary().startswith("4 clips from 2 videos; 3 files skipped: ")
    assert seen == [(n, 5) for n in range(1, 6)]


def test_every_clip_can_be_read(folder):
    for clip in scan_videos(folder, 8, 7, clips_per_video=20).clips:
        assert read_clip(clip.path, 8, 7, clip.start_s, 16, 32).shape == (8, 16, 32, 3)


def test_the_seed_decides(folder):
    index = scan_videos(folder, 8, 7, 2, seed=1)
    assert index == scan_videos(folder, 8, 7, 2, seed=1)
    other = scan_videos(folder, 8, 7, 2, seed=2)
    assert [c.start_s for c in index.clips] != [c.start_s for c in other.clips]


def test_a_file_keeps_its_clips_when_others_come(folder, tmp_path):
    (tmp_path / "b.mp4").write_bytes((folder / "b.mp4").read_bytes())
    alone = [clip.start_s for clip in scan_videos(tmp_path, 8, 7, 2).clips]
    assert alone == [clip.start_s for clip in scan_videos(folder, 8, 7, 2).clips if clip.path.name == "b.mp4"]


def test_clips_are_spread_over_the_whole_length():
    info = VideoInfo(duration_s=60.0, fps=25.0, width=64, height=32, num_frames=1500)
    starts = clip_starts(info, 8, 7, 10, np.random.default_rng(0))
    room_s = 60 - 1 / 25 - 1
    assert [int(start / room_s * 10) for start in starts] == list(range(10))


@pytest.mark.parametrize(("num_frames", "count"), [(7, 0), (8, 1), (9, 2), (10, 3)])
def test_a_short_video_gives_no_clip_twice(num_frames, count):
    info = VideoInfo(num_frames / 7, 7.0, 64, 32, num_frames)
    starts = clip_starts(info, 8, 7, 5, np.random.default_rng(0))
    assert len(starts) == len(set(starts)) == count


def test_bad_folders(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist: a folder of video files was expected"):
        find_videos(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file"):
        find_videos(tmp_path / "file")
    with pytest.raises(UserError, match=r"no video file in it \(looked for .*\.mp4"):
        scan_videos(tmp_path, 8, 7)
    for n in range(5):
        (tmp_path / f"{n}.mp4").touch()
    with pytest.raises(UserError, match="none of its 5 video files is usable: .*0.mp4: broken.*; and 2 more"):
        scan_videos(tmp_path, 8, 7)


def test_repeated_frames_are_counted_and_can_be_left_out(tmp_path):
    write_numbered(tmp_path / "moving.mp4", 30, 10)
    write_numbered(tmp_path / "slow.mp4", 4, 1)  # 8 frames at 7 fps show two pictures
    still = np.full((20, 32, 64, 3), 120, np.uint8)
    write_video(tmp_path / "still.mp4", still, 10)
    index = scan_videos(tmp_path, 8, 7)
    repeated = {clip.path.name: clip.motion.repeated for clip in index.clips}
    assert repeated == {"moving.mp4": 0.0, "slow.mp4": pytest.approx(6 / 7), "still.mp4": 1.0}
    assert "2 clips repeat frames (62% of all: slower files or still pictures)" in index.summary()
    moving = next(clip.motion.magnitude for clip in index.clips if clip.path.name == "moving.mp4")
    left = scan_videos(tmp_path, 8, 7, min_motion=moving * 0.9)
    assert [clip.path.name for clip in left.clips] == ["moving.mp4"]
    assert "2 clips skipped: " in left.summary() and "still.mp4: moves by 0.0000" in left.summary()
    with pytest.raises(UserError, match="none of its 3 video files is usable: .*less than data.min_motion"):
        scan_videos(tmp_path, 8, 7, min_motion=0.99)


def test_a_damaged_clip_is_left_out_and_the_others_of_its_file_stay(tmp_path, monkeypatch):
    write_numbered(tmp_path / "a.mp4", 75, 25)

    def read(path, num_frames, fps, start_s, height, width):
        if start_s > 1:
            raise DamagedVideo(f"{path}: damaged")
        return read_clip(path, num_frames, fps, start_s, height, width)

    monkeypatch.setattr(clips, "read_clip", read)
    index = scan_videos(tmp_path, 8, 7, clips_per_video=4)
    assert 0 < len(index.clips) < 4 and len(index.clips) + len(index.skipped) == 4
    assert all(clip.start_s <= 1 for clip in index.clips) and "clips skipped: " in index.summary()
