"""The clips of a folder in one call, read in this process."""

from __future__ import annotations

import tempfile
from pathlib import Path

from training.data.clips import ClipIndex
from training.data.index.build import build_index
from training.data.index.choose import Filters, choose_clips
from training.data.index.rows import ClipSettings
from training.data.sources.source import open_source

NO_FILTERS = Filters()


def scan_videos(
    folder: Path,
    num_frames: int,
    fps: float,
    clips_per_video: int = 1,
    seed: int = 0,
    shots: str = "none",
    filters: Filters = NO_FILTERS,
) -> ClipIndex:
    """The clips of all videos below `folder`."""
    settings = ClipSettings(num_frames, fps, clips_per_video, seed)
    with tempfile.TemporaryDirectory() as temporary:
        index = build_index(open_source(folder), settings, Path(temporary) / "index.sqlite", shots, workers=0)
        return choose_clips(index, filters, str(folder))
