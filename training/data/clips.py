"""The clips that a folder of videos offers: a few spread over every usable file; the other files are named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilevd.errors import UserError
from mobilevd.folder_files import files_below
from training.data.motion import HEIGHT, WIDTH, ClipMotion, motion_of
from training.data.video import read_clip
from training.data.video_stream import DamagedVideo, VideoError, VideoInfo, probe
from training.data.videos import Video

SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mjpeg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv "
    ".y4m".split()
)
REASONS_SHOWN = 3


@dataclass(frozen=True)
class Clip:
    """A clip: its video, its start in seconds from the video's first frame, and how much it moves."""

    video: Video
    start_s: float
    motion: ClipMotion = ClipMotion(0.0, 0.0)

    @property
    def path(self) -> Path:
        return self.video.path


@dataclass(frozen=True)
class Skipped:
    """A file that gave no clip, or a clip that was left out, and the reason, in one line that names the file."""

    path: Path
    reason: str
    start_s: float | None = None
    """Start of the clip; None if no clip of the file is used."""


@dataclass(frozen=True)
class ClipIndex:
    """The clips of a folder, sorted by file and start, and what was skipped."""

    clips: list[Clip]
    skipped: list[Skipped]

    def summary(self) -> str:
        """One line on the clips, with what was skipped, and how many frames only repeat the one before."""
        files = len({clip.path for clip in self.clips})
        line = f"{len(self.clips)} clips from {files} videos"
        repeating = [clip for clip in self.clips if clip.motion.repeated > 0]
        if repeating:
            share = sum(clip.motion.repeated for clip in self.clips) / len(self.clips)
            line += f"; {len(repeating)} clips repeat frames ({share:.0%} of all: slower files or still pictures)"
        for of_file, what in ((True, "files"), (False, "clips")):
            if skipped := [item for item in self.skipped if (item.start_s is None) == of_file]:
                line += f"; {len(skipped)} {what} skipped: {_reasons(skipped)}"
        return line


def _reasons(skipped: list[Skipped]) -> str:
    more = f"; and {len(skipped) - REASONS_SHOWN} more" if len(skipped) > REASONS_SHOWN else ""
    return "; ".join(item.reason for item in skipped[:REASONS_SHOWN]) + more


def find_videos(folder: Path | str) -> list[Path]:
    """All files below `folder` with a video's suffix, as `files_below` finds them. UserError if it is no folder."""
    folder = Path(folder)
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {state}: a folder of video files was expected")
    return files_below(folder, SUFFIXES)


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
    min_motion: float = 0.0,
) -> ClipIndex:
    """Find the clips of `num_frames` frames at `fps` in all videos below `folder`.

    A file's clips depend on the seed and on its name in the folder alone, not on its neighbours. Every clip is decoded, so
    that a file that was cut off or damaged is found here and not in the middle of training, and its motion is measured;
    clips below `min_motion` (`ClipMotion.magnitude`) are left out.

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
            video = Video(path.relative_to(folder).as_posix(), path)
            found = [_read(video, start, num_frames, fps, min_motion) for start in starts]
        except VideoError as error:
            found = [Skipped(path, str(error))]
        clips += [item for item in found if isinstance(item, Clip)]
        skipped += [item for item in found if isinstance(item, Skipped)]
        if progress is not None:
            progress(number + 1, len(files))
    if not clips:
        raise UserError(f"{folder}: none of its {len(files)} video files is usable: {_reasons(skipped)}")
    return ClipIndex(clips, skipped)


def _read(video: Video, start_s: float, num_frames: int, fps: float, min_motion: float) -> Clip | Skipped:
    path = video.path
    try:
        motion = motion_of(read_clip(video, num_frames, fps, start_s, HEIGHT, WIDTH))
    except DamagedVideo as error:  # elsewhere in the file, all may be well
        return Skipped(path, str(error), start_s)
    if motion.magnitude < min_motion:
        reason = f"{path}: moves by {motion.magnitude:.4f} at {start_s:.2f} s, less than data.min_motion"
        return Skipped(path, reason, start_s)
    return Clip(video, start_s, motion)
