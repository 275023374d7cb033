"""The clips that a source of videos offers, and the videos and clips that were left out, with the reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from training.data.motion import ClipMotion
from training.data.videos import Video

REASONS_SHOWN = 3
ROUNDING_S = 1e-6  # of sums of times
Shot = tuple[float, float]
"""Times of its first and its last frame, in seconds from the video's first frame."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip: its video, its start in seconds from the video's first frame, and what was measured of it.

    `aspect` is width / height of the upright picture as it is shown; 0 if nobody measured it.
    """

    video: Video
    start_s: float
    motion: ClipMotion = ClipMotion(0.0, 0.0)
    aspect: float = 0.0


@dataclass(frozen=True, slots=True)
class Skipped:
    """A video that gave no clip, or a clip that cannot be used, and the reason, in one line that names the file."""

    video: Video
    reason: str
    start_s: float | None = None
    """Start of the clip; None if no clip of the video is used."""


@dataclass(frozen=True)
class ClipIndex:
    """The clips of a source, in the order of videos and starts.

    Attributes:
        skipped: what cannot be used.
        taken_by_filter: number of clips that each filter of the configuration left out, by its name there.
    """

    clips: list[Clip]
    skipped: list[Skipped]
    taken_by_filter: Mapping[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """One line on the clips, with what was left out, and how many frames only repeat the one before."""
        videos = len({clip.video.name for clip in self.clips})
        line = f"{len(self.clips)} clips from {videos} videos"
        repeating = sum(clip.motion.repeated > 0 for clip in self.clips)
        if repeating:
            share = sum(clip.motion.repeated for clip in self.clips) / len(self.clips)
            line += f"; {repeating} clips repeat frames ({share:.0%} of all: slower files or still pictures)"
        if self.taken_by_filter:
            line += f"; left out: {taken(self.taken_by_filter)}"
        for of_video, what in ((True, "files"), (False, "clips")):
            if skipped := [item for item in self.skipped if (item.start_s is None) == of_video]:
                line += f"; {len(skipped)} {what} skipped: {reasons(skipped)}"
        return line

    def of_videos(self, wanted: Callable[[str], bool]) -> ClipIndex:
        """The clips of videos whose whole name is wanted."""
        return ClipIndex([clip for clip in self.clips if wanted(clip.video.whole_name)], [])


def taken(by_filter: Mapping[str, int]) -> str:
    """How many clips each filter left out, in words."""
    return ", ".join(f"{count} by data.{name}" for name, count in by_filter.items())


def reasons(skipped: list[Skipped]) -> str:
    """The first few reasons, and how many more there are."""
    more = f"; and {len(skipped) - REASONS_SHOWN} more" if len(skipped) > REASONS_SHOWN else ""
    return "; ".join(item.reason for item in skipped[:REASONS_SHOWN]) + more


def clip_starts(
    shots: Sequence[Shot], rate: float, num_frames: int, fps: float, count: int, rng: np.random.Generator
) -> list[float]:
    """Return starts in seconds, rising: one drawn from each of `count` equal parts of the times where a clip fits.

    A clip fits where it lies inside one shot. A short video gives fewer clips, so that no two are the same, and none at
    all if not even one fits. `rate`: frames per second of the video.
    """
    span_s = (num_frames - 1) / fps
    places = [(first_s, last_s - span_s - first_s) for first_s, last_s in shots]  # earliest start, room for later ones
    # within half a frame of the video the last frame of the clip is still the nearest
    exact = [first_s for first_s, room_s in places if -0.5 / rate <= room_s < ROUNDING_S]
    wide = [(first_s, room_s) for first_s, room_s in places if room_s >= ROUNDING_S]
    spread = min(count, sum(1 + int((room_s + ROUNDING_S) * rate) for _, room_s in wide))
    ends = np.cumsum([room_s for _, room_s in wide])
    starts = []
    for position in (np.arange(spread) + rng.random(spread)) / spread * ends[-1] if spread else ():
        shot = min(int(np.searchsorted(ends, position, side="right")), len(wide) - 1)
        first_s, room_s = wide[shot]
        starts.append(float(first_s + min(max(0.0, position - (ends[shot] - room_s)), room_s)))
    left = min(count - spread, len(exact))
    return sorted(starts + [exact[k * len(exact) // left] for k in range(left)])
