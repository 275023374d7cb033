"""Builds the index of a source and keeps it: only new and changed videos are read, in parallel."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilevd.errors import UserError
from training.data.index.detection import Detection, choose_detection, describe_detection
from training.data.index.index_file import (
    add_choice,
    opened_index,
    read_facts,
    set_setting,
    setting,
    write_clips,
    write_source,
    write_video,
)
from training.data.index.look import look_at
from training.data.index.processes import Crashed, over_items
from training.data.index.rows import ClipSettings, VideoClips, VideoFacts
from training.data.videos import Video

COMMIT_S = 2.0  # a kill loses no more
FEW = 4  # videos that a process must at least have to do; starting it takes longer


@dataclass(frozen=True)
class Index:
    """An index that is whole: its file, the settings of its clips, and the detector of shots that was used."""

    file: Path
    settings: ClipSettings
    detection: str


@dataclass(frozen=True)
class _Task:
    """A video to look at; one that is known is looked at for its clips alone."""

    video: Video
    signature: str
    detection: Detection
    settings: ClipSettings
    id: int | None = None
    known: VideoFacts | None = None


def build_index(
    videos: Sequence[Video],
    settings: ClipSettings,
    file: Path,
    shots: str = "auto",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Index:
    """Bring the index in `file` up to date with the videos of a source, for clips of these settings.

    A video is read if it is new or has another size, time of change or place in its shard, or was looked at by another
    detector of shots; then its clips are chosen and measured. Other settings of clips read the clips alone. What is done
    is committed every other second, so a killed build goes on there. Rows of videos that are gone stay, unused.

    Args:
        shots: `data.shots`; `auto` stays with the detector that the index began with.
        workers: processes that read; None: one per core, as far as there is work for them; 0: this process.
        progress: called with (videos done, videos).

    Raises UserError for an index that cannot be used, and a detector that is not installed.
    """
    with opened_index(file, write=True) as database:
        before = setting(database, "detection")
        detection = choose_detection(shots, before)
        described = describe_detection(detection)
        set_setting(database, "detection", detection)
        database.execute("DELETE FROM settings WHERE name = 'complete'")  # until it is again
        choice = add_choice(database, str(settings))
        database.commit()
        tasks = _tasks(database, videos, detection, described, settings, choice)
        _work(database, tasks, choice, len(videos), _processes(workers, len(tasks)), progress)
        write_source(database, list(videos))
        set_setting(database, "complete", described)
        database.commit()
    return Index(file, settings, described)


def read_index(file: Path, settings: ClipSettings) -> Index:
    """The index that another process built. UserError if it is not whole, or not for clips of these settings."""
    with opened_index(file) as database:
        described = setting(database, "complete")
        known = database.execute("SELECT 1 FROM choices WHERE settings = ?", (str(settings),)).fetchone()
    if described is None or known is None:
        raise UserError(f"{file}: no whole index of {settings}; all processes must see the folder of the first one")
    return Index(file, settings, described)


def _processes(workers: int | None, tasks: int) -> int:
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cores, tasks // FEW)
    return min(workers, tasks)


def _tasks(
    database: sqlite3.Connection,
    videos: Sequence[Video],
    detection: Detection,
    described: str,
    settings: ClipSettings,
    choice: int,
) -> list[_Task]:
    """What is to be looked at."""
    known = {
        name: (id, signature) for id, name, signature in database.execute("SELECT id, name, signature FROM videos")
    }
    looked = {video for (video,) in database.execute("SELECT video FROM looked WHERE choice = ?", (choice,))}
    stats: dict[Path, str] = {}
    tasks = []
    for video in videos:
        signature = _signature(video, described, stats)
        id, before = known.get(video.name, (None, None))
        if id is None or before != signature:
            tasks.append(_Task(video, signature, detection, settings))
        elif id not in looked:
            tasks.append(_Task(video, signature, detection, settings, id, read_facts(database, id)))
    return tasks


def _signature(video: Video, described: str, stats: dict[Path, str]) -> str:
    """What a video's rows depend on; empty for one that cannot be reached now, which is looked at again next time."""
    if video.path not in stats:
        try:
            stat = video.path.stat()
            stats[video.path] = f"{stat.st_size} bytes, changed at {stat.st_mtime_ns}"
        except OSError:
            stats[video.path] = ""
    place = f"{video.offset} {video.size} {video.start_s} {video.end_s}"
    return f"{stats[video.path]}; {place}; {described}" if stats[video.path] else ""


def _work(
    database: sqlite3.Connection,
    tasks: list[_Task],
    choice: int,
    videos: int,
    processes: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    done = videos - len(tasks)
    committed = time.monotonic()
    try:
        for number, result in over_items(_look, tasks, processes):
            task = tasks[number]
            signature = task.signature
            if isinstance(result, Crashed):
                result = VideoFacts(error=f"{task.video}: the process that read it ended ({result})"), VideoClips([])
            elif not result[0].head_sha256:
                signature = ""  # it could not be reached at all: looked at again next time
            facts, clips = result
            if task.id is None or task.known is None:
                write_video(database, task.video.name, signature, facts, choice, clips)
            else:
                write_clips(database, task.id, choice, clips)
            done += 1
            if time.monotonic() - committed > COMMIT_S:
                database.commit()
                committed = time.monotonic()
            if progress is not None:
                progress(done, videos)
    finally:
        database.commit()


def _look(task: _Task) -> tuple[VideoFacts, VideoClips]:
    if task.known is not None and task.known.error:
        return task.known, VideoClips([])
    return look_at(task.video, task.detection, task.settings, task.known)
