"""The videos of a run: found and read by the first process, known to all from the index in the run's folder."""

from __future__ import annotations

from collections.abc import Callable

from mobilevd.config.data import DataSettings
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.processes import join_processes
from training.data.clips import ClipIndex
from training.data.index.build import Index, build_index, read_index
from training.data.index.choose import Filters, choose_clips, videos_of
from training.data.index.rows import ClipSettings
from training.data.sources.lists import listed_names
from training.data.sources.missing import first_few
from training.data.sources.source import open_source
from training.data.sources.urls import is_url, shown_url
from training.data.split import recorded_split
from training.data.videos import Video


def filters_of(data: DataSettings) -> Filters:
    return Filters(data.min_motion, data.max_motion, data.min_brightness, data.max_brightness, data.max_repeated)


def index_videos(
    config: RunConfig,
    part: str,
    title: str,
    find: Callable[[], list[Video]],
    display: Display,
    shots: str | None = None,
) -> tuple[Index, ClipIndex]:
    """The index of the videos that `find` gives, and the clips that the filters leave of it.

    All processes call this, the first one before the others: it alone looks for videos and reads what is new in them.

    Args:
        part: names the index file, `index-PART.sqlite`.
        title: names the videos in messages.
        shots: in place of `data.shots`.
    """
    data, title = config.data, shown_place(title)
    settings = ClipSettings(data.num_frames, data.fps, data.clips_per_video, config.seed)
    file = config.output / "data" / f"index-{part}.sqlite"
    if join_processes().is_main_process:
        videos = find()
        with display.bar(f"reading {title}", len(videos)) as bar:
            index = build_index(videos, settings, file, shots or data.shots, data.workers, bar.update)
    else:
        index = read_index(file, settings)
    clips = choose_clips(index, filters_of(data), title)
    cuts = "" if index.detection == "none" else f"; shots by {' '.join(index.detection.split()[:2])}"
    display.line(f"  {clips.summary()}{cuts}")
    return index, clips


def shown_place(place: str) -> str:
    """A source as messages name it."""
    return shown_url(place) if is_url(place) else place


def find_videos(config: RunConfig, place: str, display: Display) -> list[Video]:
    """The videos of a source; shards at a URL are fetched into the run's folder."""
    with display.bar(f"looking for videos in {shown_place(place)}") as bar:
        return open_source(place, cache=config.output / "data" / "shards", progress=bar.update)


def find_listed(config: RunConfig, display: Display) -> list[Video]:
    """The videos of `data.videos` that the run needs: where both sides are listed, the listed ones."""
    data = config.data
    assert data.videos is not None
    videos = find_videos(config, data.videos, display)
    lists = [file for file in (data.train_list, data.test_list) if file is not None]
    names = [video.whole_name for video in videos]
    listed = [listed_names(names, file, data.videos) for file in lists]  # a missing one is told before any work
    if data.train_list is None:
        return videos
    wanted = set[str]().union(*listed)
    return [video for video in videos if video.whole_name in wanted]


def divide(config: RunConfig, index: Index, clips: ClipIndex) -> tuple[ClipIndex, ClipIndex]:
    """Clips to train on and to compare with, by the lists or by the run's own split: all of a video on one side."""
    data = config.data
    if data.test_list is None:
        return _hold_out(config, clips)
    names = {video.whole_name for video in videos_of(index)}
    judged = listed_names(names, data.test_list, str(data.videos))
    trained = listed_names(names, data.train_list, str(data.videos)) if data.train_list else names - judged
    if both := sorted(judged & trained):
        raise UserError(
            f"{data.train_list} and {data.test_list} both list {len(both)} videos ({first_few(both)}): a video is trained "
            "on or judged by"
        )
    sides = clips.of_videos(trained.__contains__), clips.of_videos(judged.__contains__)
    for side, what, count in zip(sides, ("train on", "compare with"), map(len, (trained, judged)), strict=True):
        if not side.clips:
            raise UserError(f"{data.videos}: no clip is left to {what}, of {count} listed videos: {clips.summary()}")
    return ClipIndex(sides[0].clips, clips.skipped, clips.taken_by_filter), sides[1]


def _hold_out(config: RunConfig, clips: ClipIndex) -> tuple[ClipIndex, ClipIndex]:
    """Split by video, as the run recorded it."""
    record = config.output / "data" / "split.json"
    try:
        names = (clip.video.whole_name for clip in clips.clips)
        split = recorded_split(record, names, config.data.holdout, config.seed)
    except UserError as error:
        raise UserError(f"{config.data.videos}: {error}") from None
    train, test = clips.of_videos(split.trained.__contains__), clips.of_videos(split.judged.__contains__)
    return ClipIndex(train.clips, clips.skipped, clips.taken_by_filter), test
