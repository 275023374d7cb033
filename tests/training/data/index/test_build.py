"""The index: kept, updated only for what is new, whole after kills, and the same in any number of processes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mobilevd.errors import UserError
from tests.source import ROOT
from tests.training.data.numbered import write_numbered
from training.data.clips import ClipIndex
from training.data.index import build, look
from training.data.index.build import Index, build_index, read_index
from training.data.index.choose import Filters, choose_clips
from training.data.index.index_file import add_choice, opened_index, write_source
from training.data.index.index_file import write_video as write_video_row
from training.data.index.look import head_of
from training.data.index.rows import ClipSettings, MeasuredClip, VideoClips, VideoFacts
from training.data.sources.source import open_source
from training.data.video import write_video
from training.data.videos import Video

SETTINGS = ClipSettings(4, 7)
COUNT = 9


@pytest.fixture
def folder(tmp_path) -> Path:
    """Eight usable videos, and a broken one."""
    (tmp_path / "videos").mkdir()
    first = write_numbered(tmp_path / "videos" / "0.mp4", 20, 10)
    for number in range(1, COUNT - 1):
        (tmp_path / "videos" / f"{number}.mp4").write_bytes(first.read_bytes())
    (tmp_path / "videos" / "broken.mp4").write_text("no video")
    return tmp_path / "videos"


@pytest.fixture
def looked_at(monkeypatch) -> list[str]:
    """Names of the videos that are looked at; of those that are known, with a star."""
    names = []
    look = build._look

    def noting(task):
        names.append(task.video.name + "*" * (task.known is not None))
        return look(task)

    monkeypatch.setattr(build, "_look", noting)
    return names


def built(folder: Path, file: Path, settings: ClipSettings = SETTINGS, workers: int = 0, **options) -> ClipIndex:
    index = build_index(open_source(folder), settings, file, options.pop("shots", "none"), workers, **options)
    assert read_index(file, settings) == index
    return choose_clips(index, Filters())


def test_only_what_is_new_or_changed_is_read(folder, tmp_path, looked_at):
    file, seen = tmp_path / "run" / "index.sqlite", []
    first = built(folder, file, progress=lambda *done: seen.append(done))
    assert len(first.clips) == 8 and len(first.skipped) == 1 and len(looked_at) == COUNT
    assert seen == [(number, COUNT) for number in range(1, COUNT + 1)]
    looked_at.clear()
    assert built(folder, file) == first and not looked_at
    (folder / "new.mp4").write_bytes((folder / "0.mp4").read_bytes())
    os.utime(folder / "1.mp4", ns=(0, 5))
    (folder / "2.mp4").unlink()
    second = built(folder, file)
    assert looked_at == ["1.mp4", "new.mp4"]
    assert [clip.video.name for clip in second.clips] == [f"{n}.mp4" for n in (0, 1, 3, 4, 5, 6, 7, "new")]
    looked_at.clear()
    (folder / "2.mp4").write_bytes((folder / "0.mp4").read_bytes())
    built(folder, file)
    assert looked_at == ["2.mp4"]  # known, but it was written anew
    folder.rename(tmp_path / "moved")
    looked_at.clear()
    moved = built(tmp_path / "moved", file)
    assert not looked_at and moved.clips[0].video.path == tmp_path / "moved" / "0.mp4"


def test_other_settings_of_clips_need_no_new_search_for_shots(folder, tmp_path, looked_at):
    file = tmp_path / "index.sqlite"
    first = built(folder, file, shots="pyscenedetect")
    looked_at.clear()
    longer = ClipSettings(5, 7, clips_per_video=2, seed=3)
    second = built(folder, file, longer, shots="auto")  # stays with the detector of before
    assert looked_at == [f"{n}.mp4*" for n in range(8)] + ["broken.mp4*"] and len(second.clips) == 16
    looked_at.clear()
    assert built(folder, file, shots="pyscenedetect") == first and not looked_at
    built(folder, file, shots="none")
    assert len(looked_at) == COUNT and "0.mp4" in looked_at


def test_what_is_kept_of_a_video(tmp_path):
    write_video(tmp_path / "v" / "a.mp4", np.full((20, 48, 32, 3), 102, np.uint8), 10)
    index = built(tmp_path / "v", tmp_path / "i.sqlite", shots="pyscenedetect")
    (clip,) = index.clips
    assert clip.aspect == pytest.approx(32 / 48)
    with opened_index(tmp_path / "i.sqlite") as database:
        columns = "head_sha256, num_frames, fps, duration_s, width, height, shots, error"
        row = database.execute(f"SELECT {columns} FROM videos").fetchone()
        (brightness,) = database.execute("SELECT brightness FROM clips").fetchone()
    assert row == (head_of(clip.video), 20, 10.0, 2.0, 32, 48, "[[0.0, 1.9]]", "")
    assert brightness == pytest.approx(0.4, abs=0.01)


def test_any_number_of_processes_gives_the_same(folder, tmp_path):
    alone = built(folder, tmp_path / "a.sqlite", shots="pyscenedetect")
    assert built(folder, tmp_path / "b.sqlite", workers=2, shots="pyscenedetect") == alone


def test_parts_of_videos_bound_clips(tmp_path):
    write_numbered(tmp_path / "a.mp4", 60, 10)
    (tmp_path / "m.csv").write_text("path,start,end\na.mp4,2.5,4\na.mp4,5.5,5.9\na.mp4,4,\na.mp4,9,\n")
    for shots in ("none", "pyscenedetect"):
        index = built(tmp_path / "m.csv", tmp_path / f"{shots}.sqlite", ClipSettings(4, 10, 3), shots=shots)
        starts = {part: [c.start_s for c in index.clips if c.video.name == f"a.mp4#{part}"] for part in ("2.5-4", "4-")}
        assert len(starts["2.5-4"]) == 3 == len(starts["4-"])
        assert min(starts["2.5-4"]) >= 2.5 and max(starts["2.5-4"]) + 0.3 <= 4 and min(starts["4-"]) >= 4
        assert len([c for c in index.clips if c.video.name == "a.mp4#5.5-5.9"]) == 1  # it just fits
        assert ["no frame of it can be decoded from 9 s on" in item.reason for item in index.skipped] == [True]


def test_a_killed_build_goes_on(folder, tmp_path):
    """SIGKILL in the middle: what was committed stays, no process is left, and the next build does the rest."""
    first = (folder / "0.mp4").read_bytes()
    for number in range(200):
        (folder / f"more-{number}.mp4").write_bytes(first)
    code = (
        "import sys; from pathlib import Path; from training.data.index import build\n"
        "from training.data.index.rows import ClipSettings; from training.data.sources.source import open_source\n"
        "if __name__ == '__main__':\n"
        "    build.COMMIT_S = 0.0\n"
        "    videos = open_source(sys.argv[1])\n"
        "    progress = lambda done, total: print(done, flush=True)\n"
        "    build.build_index(videos, ClipSettings(4, 7), Path(sys.argv[2]), 'none', 2, progress)\n"
    )
    script, file = tmp_path / "script.py", tmp_path / "index.sqlite"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(file)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < 30:
        pass
    workers = children(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    with sqlite3.connect(file) as database:
        (rows,) = database.execute("SELECT count(*) FROM videos").fetchone()
    assert rows >= 30
    with pytest.raises(UserError, match="no whole index of 1 x 4 frames at 7 fps, seed 0"):
        read_index(file, SETTINGS)
    with_rest: list[tuple[int, int]] = []
    index = built(folder, file, progress=lambda *done: with_rest.append(done))
    assert with_rest[0] == (rows + 1, 200 + COUNT) and len(index.clips) == 208
    gone_by = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < gone_by:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers), "workers outlived their parent"


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_ctrl_c_keeps_what_was_done(folder, tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built(folder, tmp_path / "i.sqlite", progress=stop, workers=1)
    seen = []
    built(folder, tmp_path / "i.sqlite", progress=lambda *done: seen.append(done))
    assert seen[0] == (4, COUNT)


def test_files_that_cannot_be_reached_are_looked_at_again(folder, tmp_path, looked_at):
    videos = [*open_source(folder), Video("away.mp4", folder / "away.mp4")]
    file = tmp_path / "i.sqlite"
    index = choose_clips(build_index(videos, SETTINGS, file, "none", 0), Filters())
    assert any("away.mp4" in item.reason and "No such file" in item.reason for item in index.skipped)
    looked_at.clear()
    (folder / "away.mp4").write_bytes((folder / "0.mp4").read_bytes())
    assert len(choose_clips(build_index(videos, SETTINGS, file, "none", 0), Filters()).clips) == 9
    assert looked_at == ["away.mp4"]


def test_files_that_are_no_index(folder, tmp_path):
    file = tmp_path / "i.sqlite"
    for content in (b"something else" * 100, b"SQLite format 3\0" + bytes(2000)):
        file.write_bytes(content)
        for use in (lambda: built(folder, file), lambda: read_index(file, SETTINGS)):
            with pytest.raises(UserError, match="i.sqlite: .*delete it"):
                use()
        assert file.read_bytes() == content
    file.unlink()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE mine (x)")
    with pytest.raises(UserError, match="no index of videos of this version"):
        built(folder, file)
    with pytest.raises(UserError, match="gone.sqlite: the index of videos cannot be used"):
        read_index(tmp_path / "gone.sqlite", SETTINGS)


def test_many_clips_take_little_memory(tmp_path):
    """Below 1000 bytes a clip: 200 000 of them below 200 MB."""
    videos = [Video(f"part-{n % 10}/{n:016x}.mp4", Path(f"/videos/part-{n % 10}/{n:016x}.mp4")) for n in range(5000)]
    facts, two = VideoFacts("0" * 64, 240, 24.0, 10.0, 1280, 720, 1.8, [(0.0, 9.9)]), ClipSettings(14, 7, 2)
    with opened_index(tmp_path / "i.sqlite", write=True) as database:
        choice = add_choice(database, str(two))
        for n, video in enumerate(videos):
            clips = [MeasuredClip(n / 7 + k, n / 1e6, k / 3, 0.5) for k in range(2)]
            write_video_row(database, video.name, "x", facts, choice, VideoClips(clips))
        write_source(database, videos)
        database.commit()
    tracemalloc.start()
    clips = choose_clips(Index(tmp_path / "i.sqlite", two, ""), Filters())
    bytes_now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(clips.clips) == 10_000 and clips.clips[-1].video == videos[-1]
    assert bytes_now / 10_000 < 1000 and peak / 10_000 < 1000


def test_clips_of_long_videos_are_read_again_with_the_same_result(tmp_path, monkeypatch):
    write_numbered(tmp_path / "v.mp4", 60, 10)
    both = []
    for kept_bytes in (1 << 20, 5):
        monkeypatch.setattr(look, "KEPT_BYTES", kept_bytes)
        both.append(built(tmp_path, tmp_path / f"{kept_bytes}.sqlite", shots="pyscenedetect"))
    assert both[0].clips and both[0] == both[1]
