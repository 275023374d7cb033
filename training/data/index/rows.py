"""What an index says of a video and of its clips, and the settings that decide which clips are taken."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.data.clips import Shot


@dataclass(frozen=True)
class ClipSettings:
    """The settings that decide which clips are taken from a video, besides its name and its shots."""

    num_frames: int
    fps: float
    clips_per_video: int = 1
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.clips_per_video} x {self.num_frames} frames at {self.fps:g} fps, seed {self.seed}"


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video, whichever clips are taken from it.

    Attributes:
        head_sha256: of its first MiB; empty if the file cannot be read at all now.
        num_frames, fps, duration_s, width, height: as in `VideoInfo`.
        aspect: width / height of the upright picture as it is shown.
        shots: those inside the part that is used.
        error: why it cannot be used, in one line that names it; empty if it can.
    """

    head_sha256: str = ""
    num_frames: int = 0
    fps: float = 0.0
    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    aspect: float = 0.0
    shots: list[Shot] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True)
class MeasuredClip:
    """A clip of a video: motion as in `ClipMotion`, mean luma with white as 1, and why it cannot be used."""

    start_s: float
    magnitude: float = 0.0
    repeated: float = 0.0
    brightness: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class VideoClips:
    """The clips that settings choose of a video; `reason` why there are none, in one line that names it."""

    clips: list[MeasuredClip]
    reason: str = ""
