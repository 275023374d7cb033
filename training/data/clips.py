"""The clips that a folder of videos offers: a few spread over every usable file; the other files are named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilevd.errors import UserError
from training.data.video import VideoError, VideoInfo, probe, read_clip

SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mjpeg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv "
    ".y4m".split()
)
REASONS_SHOWN = 3


@dataclass(frozen=True)
class Clip:
    """A clip: its file and its start, in seconds from the file's first frame."""

    path: Path
    start_s: float


@dataclass(frozen=True)
class Skipped:
    """A file that gave no clip, and the reason, in one line that names it."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ClipIndex:
    """The clips of a folder, sorted by file and start, and the files that were skipped."""

    clips: list[Clip]
    skipped: list[Skipped]

    def summary(self) -> str:
        """One line on the clips, with the files that were skipped."""
        files = len({clip.path for clip in self.clips})
        line = f"{len(self.clips)} clips from {files} videos"
        return line + (f"; {len(self.skipped)} files skipped: {_reasons(self.skipped)}" if self.skipped else "")


def _reasons(skipped: list[Skipped]) -> str:
    more = f"; and {len(skipped) - REASONS_SHOWN} more" if len(skipped) > REASONS_SHOWN else ""
    return "; ".join(item.reason for item in skipped[:REASONS_SHOWN]) + more


def find_videos(folder: Path | str) -> list[Path]:
    """All files below `folder` with a video's suffix, except hidden ones, sorted. UserError if it is no folder."""
    folder = Path(folder)
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {state}: a folder of video files was expected")
    found = []
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            found.append(path)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def clip_starts(info: VideoInfo, num_frames: int, fps: float, count: int, rng: np.random.Generator) -> list[float]:
    """Return starts in seconds, rising: one drawn from each of `count` equal parts of the times where a clip fits.

    A short video gives fewer, so that no two clips are the same, and none at all if not even one fits.
    """
    last_frame_s = info.duration_s - 1 / info.fps
    room_s = last_frame_s - (num_frames - 1) / fps  # the latest start
    if room_s < -0.5 / info.fps:  # within half a frame the last frame is still the nearest
        return []
    room_s = max(0.0, room_s)
    count = min(count, 1 + int(room_s * info.fps))
    if count == 1 and room_s == 0:
        return [0.0]
    return [float(start) for start in (np.arange(count) + rng.random(count)) / count * room_s]


def scan_videos(
    folder: Path | str,
    num_frames: int,
    fps: float,
    clips_per_video: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ClipIndex:
    """Find the clips of `num_frames` frames at `fps` in all videos below `folder`.

    A file's clips depend on the seed and on its name in the folder alone, not on its neighbours. The last clip of each
    file is decoded, so that a file that was cut off is found here and not in the middle of training.

    Raises UserError if the folder has no video file, or none that is usable (with the reasons).
    """
    folder = Path(folder)
    files = find_videos(folder)
    if not files:
        raise UserError(f"{folder}: no video file in it (looked for {', '.join(sorted(SUFFIXES))})")
    clips: list[Clip] = []
    skipped: list[Skipped] = []
    for number, path in enumerate(files):
        digest = hashlib.sha256(f"{seed}/{path.relative_to(folder).as_posix()}".encode()).digest()
        try:
            info = probe(path)
            rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
            starts = clip_starts(info, num_frames, fps, clips_per_video, rng)
            if not starts:
                needed_s = (num_frames - 1) / fps
                raise VideoError(
                    f"{path}: too short: {info.duration_s:.2f} s ({info.num_frames} frames) where {num_frames} "
                    f"frames at {fps:g} fps span {needed_s:.2f} s"
                )
            read_clip(path, num_frames, fps, starts[-1], 16, 16)
            clips += [Clip(path, start) for start in starts]
        except VideoError as error:
            skipped.append(Skipped(path, str(error)))
        if progress is not None:
            progress(number + 1, len(files))
    if not clips:
        raise UserError(f"{folder}: none of its {len(files)} video files is usable: {_reasons(skipped)}")
    return ClipIndex(clips, skipped)
