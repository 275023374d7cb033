"""Filters on what an index measured: other filters cost no decoding."""

from __future__ import annotations

from dataclasses import dataclass

from mobilevd.errors import UserError
from training.data.clips import Clip, ClipIndex, Skipped, reasons, taken
from training.data.index.build import Index
from training.data.index.index_file import choice_id, opened_index, source_videos
from training.data.index.rows import MeasuredClip
from training.data.motion import ClipMotion
from training.data.videos import Video


@dataclass(frozen=True)
class Filters:
    """Bounds on clips, as in the configuration's `data`; the default leaves out none."""

    min_motion: float = 0.0
    max_motion: float = 1.0
    min_brightness: float = 0.0
    max_brightness: float = 1.0
    max_repeated: float = 1.0

    def leaving_out(self, clip: MeasuredClip) -> str | None:
        """Name of the first filter that leaves the clip out; None if it stays."""
        outside = {
            "min_motion": clip.magnitude < self.min_motion,
            "max_motion": clip.magnitude > self.max_motion,
            "min_brightness": clip.brightness < self.min_brightness,
            "max_brightness": clip.brightness > self.max_brightness,
            "max_repeated": clip.repeated > self.max_repeated,
        }
        return next((name for name, is_outside in outside.items() if is_outside), None)


def choose_clips(index: Index, filters: Filters, source: str = "") -> ClipIndex:
    """The clips of an index that the filters leave. UserError if there are none: why not, and what each filter took.

    `source` is the name of the source in that message.
    """
    clips: list[Clip] = []
    skipped: list[Skipped] = []
    left_out: dict[str, int] = {}
    videos = 0
    with opened_index(index.file) as database:
        choice = choice_id(database, str(index.settings))
        for video, aspect, reason, measured in source_videos(database, choice):
            videos += 1
            if reason:
                skipped.append(Skipped(video, reason))
            for clip in measured:
                if clip.error:
                    skipped.append(Skipped(video, clip.error, clip.start_s))
                elif (name := filters.leaving_out(clip)) is not None:
                    left_out[name] = left_out.get(name, 0) + 1
                else:
                    clips.append(Clip(video, clip.start_s, ClipMotion(clip.magnitude, clip.repeated), aspect))
    if not clips:
        where = f"{source or index.file}: no clip is left of its {videos} videos"
        why = [f"left out: {taken(left_out)}"] if left_out else []
        why += [f"{len(skipped)} cannot be used: {reasons(skipped)}"] if skipped else []
        raise UserError(f"{where}; {'; '.join(why)}")
    return ClipIndex(clips, skipped, left_out)


def videos_of(index: Index) -> list[Video]:
    """All videos of the source, also those that gave no clip."""
    with opened_index(index.file) as database:
        choice = choice_id(database, str(index.settings))
        return [video for video, *_ in source_videos(database, choice)]
