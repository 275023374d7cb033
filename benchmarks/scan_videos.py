"""Scanning many small videos: the index cold and warm, with 1 and 2 processes, against one clip a file in one process.

    python benchmarks/scan_videos.py [--videos 1000] [--rounds 2] [--indexed 100000]

Videos are procedural scenes, 3 s of 24 frames per second at 256x144, H.264. `serial` is what a start cost before there
was an index: every file opened and one clip of it decoded and measured, in one process, at every start. Memory is that
of a process that reads the clips of an index of 100 000 videos, whose rows are written directly. CPU times count all
processes; the elapsed ones depend on what else the machine did (its load is recorded). Figures go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from training.data.index.build import build_index
from training.data.index.index_file import add_choice, opened_index, set_setting, write_source
from training.data.index.index_file import write_video as write_row
from training.data.index.rows import ClipSettings, MeasuredClip, VideoClips, VideoFacts
from training.data.motion import HEIGHT, WIDTH, motion_of
from training.data.scenes import render_scene
from training.data.sources.source import open_source
from training.data.video import read_clip, write_video
from training.data.video_stream import probe
from training.data.videos import Video

SETTINGS = ClipSettings(14, 7, clips_per_video=1)
DIFFERENT = 20  # scenes; the others are copies, which decode alike


def write_videos(folder: Path, count: int) -> None:
    for number in range(count):
        file = folder / f"{number % 10}" / f"{number:05d}.mp4"
        if number < DIFFERENT:
            write_video(file, render_scene(number, 72, 144, 256, 24), 24)
        else:
            source = number % DIFFERENT
            file.write_bytes((folder / f"{source % 10}" / f"{source:05d}.mp4").read_bytes())


def serial(folder: Path) -> None:
    for video in open_source(folder):
        room_s = probe(video).duration_s - 13 / 7 - 1 / 24
        motion_of(read_clip(video, 14, 7, room_s * 0.4, HEIGHT, WIDTH))


def seconds(work: Callable[[], object]) -> dict[str, float]:
    """Elapsed and CPU time, those of processes that ended among it."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    started = time.perf_counter()
    work()
    elapsed = time.perf_counter() - started
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))
    return {"elapsed_s": round(elapsed, 2), "cpu_s": round(cpu, 2)}


def time_scans(folder: Path, rounds: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []

    def row(what: str, work: Callable[[], object]) -> None:
        rows.append({"what": what, **seconds(work)})
        print(json.dumps(rows[-1]), flush=True)

    for number in range(rounds):
        with tempfile.TemporaryDirectory() as temporary:
            files = {(shots, workers): Path(temporary) / f"{shots}-{workers}.sqlite"
                     for shots in ("none", "pyscenedetect") for workers in (1, 2)}  # fmt: skip
            row("serial, one clip a file", lambda: serial(folder))
            for (shots, workers), file in files.items():
                build = lambda: build_index(open_source(folder), SETTINGS, file, shots, workers)  # noqa: B023, E731
                row(f"index, shots {shots}, {workers} processes, cold", build)
                row(f"index, shots {shots}, {workers} processes, warm", build)
        print(f"round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    return rows


def write_rows(file: Path, videos: int, clips_per_video: int) -> None:
    """An index of made-up videos, each a file with a name as long as real ones."""
    settings = ClipSettings(14, 7, clips_per_video)
    rng = np.random.default_rng(0)
    names = [f"part-{number // 1000:03d}/{number:016x}.mp4" for number in range(videos)]
    listed = [Video(name, Path("/data/videos") / name) for name in names]
    facts = VideoFacts("0" * 64, 240, 24.0, 10.0, 1280, 720, 16 / 9, [(0.0, 9.9)])
    with opened_index(file, write=True) as database:
        choice = add_choice(database, str(settings))
        for video in listed:
            values = rng.random((clips_per_video, 4)).tolist()
            clips = VideoClips([MeasuredClip(*four) for four in values])
            write_row(database, video.name, "made up", facts, choice, clips)
        write_source(database, listed)
        set_setting(database, "complete", "made up")
        database.commit()


READ = """
import json, resource, sys, time
from pathlib import Path
import psutil
from training.data.index.build import Index
from training.data.index.choose import Filters, choose_clips
from training.data.index.rows import ClipSettings
before, started = psutil.Process().memory_info().rss, time.perf_counter()
clips = choose_clips(Index(Path(sys.argv[1]), ClipSettings(14, 7, int(sys.argv[2])), ""), Filters())
after, peak = psutil.Process().memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"clips": len(clips.clips), "seconds": round(time.perf_counter() - started, 2),
    "memory_mb": round((after - before) / 1e6, 1), "peak_mb": round((peak - before) / 1e6, 1)}))
"""


def measure_memory(videos: int, clips_per_video: int) -> dict[str, object]:
    """Memory of the clips of an index in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "index.sqlite"
        write_rows(file, videos, clips_per_video)
        command = [sys.executable, "-c", READ, str(file), str(clips_per_video)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        return {"videos": videos, "file_mb": round(file.stat().st_size / 1e6, 1), **json.loads(told)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--indexed", type=int, default=100_000)
    arguments = parser.parse_args()
    memory = measure_memory(arguments.indexed, 2)
    print(json.dumps(memory), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_videos(folder, arguments.videos)
        scans = time_scans(folder, arguments.rounds)
    now = datetime.now(UTC)
    content = {
        "created": now.isoformat(timespec="seconds"),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
            "versions": {name: version(name) for name in ("av", "numpy", "pillow")},
        },
        "videos": arguments.videos,
        "scans": scans,
        "memory": memory,
    }
    file = Path(__file__).parent / "results" / f"scan_videos-{now.date().isoformat()}.json"
    file.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
