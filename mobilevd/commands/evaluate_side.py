"""One side of `mobilevd evaluate`, generated or reference: its videos read and gathered, what cannot be read left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.feature_cache import FeatureCache
from eval.frames.network import FrameNetwork
from eval.gather import Arrays, Extractors, GatheredClips, StreamedClip, gather
from eval.protocol_settings import ProtocolSettings
from mobilevd.commands.evaluate_clips import (
    ClipChoice,
    ClipForm,
    ClipPlan,
    ClipRun,
    Probed,
    in_threads,
    plan_clips,
    probe_all,
    read_run,
    runs_ahead,
    stem,
)
from mobilevd.commands.evaluate_figures import ClipFigures
from mobilevd.commands.evaluate_settings import EvaluateSettings, joined
from mobilevd.errors import UserError
from training.data.sources.source import open_source
from training.data.videos import Video

CACHE_FORM = 1  # of what is kept; another one when figures are computed otherwise
Kept = tuple[Arrays, dict[str, float]]


@dataclass(frozen=True)
class Networks:
    """What turns pixels into features; `protocols` has the protocol of each extractor, by its name."""

    extractors: Extractors
    frames: FrameNetwork | None
    batch_size: int
    protocols: Mapping[str, ProtocolSettings]

    @property
    def identity(self) -> dict[str, Any]:
        """Everything of them that changes features, as JSON has it."""
        listed = {name: [extractor.sha256, extractor.protocol] for name, extractor in self.extractors}
        return {"extractors": listed, "frame network": self.frames.sha256 if self.frames else None}


@dataclass
class Side:
    """The videos of a folder (or another source, as `training.data.sources` has them).

    `what` is "generated" or "reference". `gathered` are the clips, once they were read.
    """

    what: str
    place: Path
    probed: list[Probed]
    plan: ClipPlan | None = None
    gathered: GatheredClips = field(default_factory=GatheredClips)
    broken: list[str] = field(default_factory=list)
    from_cache: int = 0

    @classmethod
    def open(cls, what: str, place: Path, with_content: bool) -> Side:
        """Find the videos and read their headers. UserError if there are none."""
        return cls(what, place, probe_all(open_source(place), with_content))

    @property
    def first(self) -> Probed:
        """The first video that can be read."""
        for each in self.probed:
            if each.info is not None:
                return each
        raise UserError(f"{self.place}: none of its {len(self.probed)} videos can be read: {self._reasons()}")

    @property
    def videos_by_name(self) -> dict[str, Video]:
        """Readable videos by their names without suffix; with it where two would be called alike."""
        videos = [each.video for each in self.probed if each.info is not None]
        by_stem = {stem(video): video for video in videos}
        return by_stem if len(by_stem) == len(videos) else {video.name: video for video in videos}

    def choose(self, form: ClipForm, choice: ClipChoice, settings: EvaluateSettings) -> None:
        """Choose the clips. UserError for too many unreadable videos or fewer than 2 clips."""
        self.plan = plan_clips(self.probed, form, choice)
        self.broken = list(self.plan.unreadable)
        self._check_broken(settings)
        if self.plan.num_clips < 2:
            short = f"; too short: {joined(self.plan.too_short)}" if self.plan.too_short else ""
            raise UserError(f"{self.place}: {self.plan.num_clips} clips to compare, 2 are needed at least{short}")

    def read(
        self,
        form: ClipForm,
        figures: ClipFigures,
        networks: Networks,
        settings: EvaluateSettings,
        cache: FeatureCache | None = None,
        pairs: dict[str, Video] | None = None,
        on_clip: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Read and gather the clips, in the order of the videos.

        Args:
            cache: keeps what is computed; what it has is not read again.
            pairs: the reference's videos by the generated ones' names.
            on_clip: told how many are done.
        """
        assert self.plan is not None
        plan = self.plan
        one_each = plan.num_clips == len({run.video.name for run in plan.runs})
        decided_by = json.dumps([CACHE_FORM, networks.identity, figures.names], sort_keys=True, default=str)

        def key_of(run: ClipRun, start_s: float) -> str:
            text = json.dumps([run.content, start_s, form.num_frames, form.fps, form.height, form.width, decided_by])
            return hashlib.sha256(text.encode()).hexdigest()

        def items() -> Iterator[tuple[ClipRun, list[Kept | None]]]:
            for run in plan.runs:
                yield run, [cache.get(key_of(run, start)) if cache else None for start in run.starts(form)]

        def work(item: tuple[ClipRun, list[Kept | None]]) -> list[StreamedClip | str]:
            run, kept = item
            needed = any(each is None for each in kept)
            clips = read_run(run, form) if needed else [""] * run.count
            reference: list[np.ndarray | str] = [""] * run.count
            if pairs is not None and needed and (video := pairs.get(run.video.name)) is not None:
                reference = read_run(ClipRun(video, run.start_s, run.count), form)
            done: list[StreamedClip | str] = []
            for start_s, clip, other, known in zip(run.starts(form), clips, reference, kept, strict=True):
                name = run.video.name if one_each else f"{run.video.name} at {start_s:.2f} s"
                if known is not None:
                    done.append(StreamedClip(name, None, known[1], known[0]))
                elif isinstance(clip, str):
                    done.append(clip)
                else:
                    values = figures.of_clip(clip, None if isinstance(other, str) else other)
                    done.append(StreamedClip(name, clip, values, key=key_of(run, start_s) if cache else None))
            return done

        def stream() -> Iterator[StreamedClip]:
            count = 0
            longest = max(run.count for run in plan.runs)
            for clips in in_threads(work, items(), runs_ahead(form, longest)):
                reasons = [clip for clip in clips if isinstance(clip, str)]
                if reasons:
                    # a video counts once, however many of its clips are damaged
                    more = f" ({len(reasons)} of {len(clips)} clips)" if len(clips) > 1 else ""
                    self.broken.append(f"{reasons[0]}{more}")
                    self._check_broken(settings)
                for clip in clips:
                    count += 1
                    if isinstance(clip, StreamedClip):
                        self.from_cache += clip.features is not None
                        yield clip
                    on_clip(count)

        keep = cache.put if cache else None
        self.gathered = gather(stream(), networks.extractors, networks.frames, networks.batch_size, keep)
        if len(self.gathered) < 2:
            found = len(self.gathered)
            raise UserError(f"{self.place}: {found} clips to compare, 2 are needed at least: {self._reasons()}")

    def _check_broken(self, settings: EvaluateSettings) -> None:
        allowed = settings.allowed_broken(len(self.probed))
        if len(self.broken) > allowed:
            raise UserError(
                f"{self.place}: more than {allowed} of its {len(self.probed)} videos cannot be read ({self._reasons()}); "
                "--max-broken puts up with more"
            )

    def _reasons(self) -> str:
        return joined(self.broken or [each.reason for each in self.probed if each.info is None])

    def left_out(self) -> dict[str, Any]:
        """What was not compared, for the results."""
        short = self.plan.too_short if self.plan else []
        return {"videos": len(self.probed), "unreadable": self.broken, "too_short": short}
