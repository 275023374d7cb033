"""The settings of the videos and of the clips taken from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mobilevd.config.base import ConfigModel, PathValue


class ScenesSettings(ConfigModel):
    """The procedural videos that are used when `data.videos` is null."""

    train: int = Field(default=256, ge=1, description="videos to train on")
    test: int = Field(default=128, ge=1, description="videos to compare with, from other seeds")
    seconds: float = Field(default=3.0, gt=0, description="length of each video in seconds")
    fps: int = Field(default=24, ge=1, description="frames per second of the files")
    seed: int = Field(default=1000, ge=0, description="seed of the first video")


class DataSettings(ConfigModel):
    """The videos, and the clips taken from them."""

    videos: str | None = Field(
        default=None,
        description="a folder of video files, a .csv or .jsonl manifest, tar shards (shards-{000..099}.tar, local or a "
        "URL); null: procedural videos",
    )
    reference_videos: str | None = Field(
        default=None, description="videos to evaluate against, named like `videos`; null holds out some of `videos`"
    )
    train_list: PathValue | None = Field(
        default=None,
        description="text file of the videos to train on, one path below `videos` a line (UCF-101's lists)",
    )
    test_list: PathValue | None = Field(
        default=None, description="text file of the videos to evaluate against, one path below `videos` a line"
    )
    holdout: float = Field(
        default=0.25, gt=0, description="videos kept for evaluation: a number (500), or a fraction below 1 (0.25)"
    )
    num_frames: int = Field(default=8, ge=2, description="frames of a clip")
    fps: int = Field(default=7, ge=1, description="frames per second of a clip")
    height: int = Field(
        default=64, ge=8, description="height in pixels, until a stage changes it; with `width` the shape of every crop"
    )
    width: int = Field(default=128, ge=8, description="width in pixels, until a stage changes it")
    aspect_ratios: list[Annotated[float, Field(gt=0)]] = Field(
        default_factory=list,
        description="width / height of the size buckets, each of about height x width pixels; empty: one size",
    )
    clips_per_video: int = Field(default=2, ge=1, description="clips taken from each video")
    shots: Literal["auto", "pyscenedetect", "transnetv2", "none"] = Field(
        default="auto",
        description="detector of cuts, which no clip crosses; auto: TransNetV2 where it is installed and has a GPU, else "
        "PySceneDetect",
    )
    min_motion: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="leave out clips that change less from frame to frame, on average, with white as 1; 0 leaves out none",
    )
    max_motion: float = Field(default=1.0, gt=0, le=1, description="leave out clips that change more than this")
    min_brightness: float = Field(default=0.0, ge=0, lt=1, description="leave out clips that are darker on average")
    max_brightness: float = Field(default=1.0, gt=0, le=1, description="leave out clips that are brighter on average")
    max_repeated: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="leave out clips of which more frames than this share repeat the one before",
    )
    motion_bucket_id: int = Field(
        default=127, ge=0, le=255, description="SVD's conditioning on the amount of motion, in sampling"
    )
    motion_buckets: Literal["constant", "measured"] = Field(
        default="constant",
        description="that conditioning in training: `motion_bucket_id`, or each clip's from its measured motion",
    )
    latents: Literal["cached", "computed"] = Field(
        default="cached", description="latents of the training clips: encoded once and kept, or computed in every step"
    )
    cache: str | None = Field(
        default=None, description="folder or URL (fsspec) of the encoded clips; null: in the run's folder"
    )
    shard_mb: int = Field(default=1024, ge=1, description="size of a shard of encoded clips in MB, about")
    workers: int | None = Field(default=None, ge=0, description="processes that decode videos; null: one per core")
    scenes: ScenesSettings = Field(default_factory=ScenesSettings, description="the procedural videos")

    @property
    def aspect(self) -> float:
        """Width / height of the run's one crop: what every stage and the evaluation see of a video's frames."""
        return self.width / self.height

    @model_validator(mode="after")
    def _whole_videos(self) -> DataSettings:
        if self.holdout >= 1 and self.holdout != int(self.holdout):
            raise ValueError(f"holdout is {self.holdout:g}: give a whole number of videos, or a fraction below 1")
        return self

    @model_validator(mode="after")
    def _ranges(self) -> DataSettings:
        for what in ("motion", "brightness"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if low >= high:
                raise ValueError(f"min_{what} {low:g} is not below max_{what} {high:g}: no clip would be left")
        return self

    @model_validator(mode="after")
    def _lists_of_what(self) -> DataSettings:
        if (self.train_list or self.test_list) and self.videos is None:
            raise ValueError("train_list and test_list choose among `videos`, which is not given")
        if self.test_list and self.reference_videos:
            raise ValueError("test_list and reference_videos both name the videos to evaluate against: give one")
        return self


def is_local(place: str) -> bool:
    """True for a path, false for the address of object storage or a server."""
    return "://" not in place or place.startswith("file://")


def local_path(place: str) -> Path:
    return Path(place.removeprefix("file://"))


UNSEEN_BY_CLIPS = {"cache", "latents", "shard_mb", "workers"}
"""Settings of the data that may change between two starts: they decide how clips are kept, and not which they are."""
