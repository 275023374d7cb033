"""The summary of the real clips that all rows and validations are compared with: made once by all processes, and kept."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from accelerate import PartialState

from eval.features import FeatureExtractor
from eval.figures import FIGURES
from eval.summary import ClipSummary, join_summaries, summarize
from mobilevd.collective import from_first, in_rounds
from mobilevd.config.schema import RunConfig
from mobilevd.files import atomic_file
from mobilevd.pipeline.held_out import identity_of, read_for_evaluation, state_of
from training.data.clips import Clip

FORM = 3  # of the kept file; another one when what it holds is computed otherwise
CLIPS_AT_A_TIME = 8  # of a process, in memory: 26 MB at 14 frames of 320x240


def summarize_reference(
    config: RunConfig,
    clips: list[Clip],
    extractor: FeatureExtractor,
    processes: PartialState,
    on_clips: Callable[[int], None] | None = None,
) -> ClipSummary:
    """The summary of real clips at the evaluation's size, in every process.

    Read from `RUN/data/reference-features-KEY.npz` if an earlier start has made it of the same clips, settings and
    extractor; otherwise every process reads and summarizes its share, one clip after the other.
    """
    file = from_first(processes, lambda: _place(config, clips, extractor))
    kept = from_first(processes, lambda: _read(file, len(clips)))
    if kept is not None:
        return kept

    def work(number: int) -> ClipSummary:
        share = clips[number * CLIPS_AT_A_TIME : (number + 1) * CLIPS_AT_A_TIME]
        pixels = np.stack([read_for_evaluation(config, clip) for clip in share])
        names = [f"{clip.video} at {clip.start_s:.2f} s" for clip in share]
        return summarize(pixels, extractor, what="reference clips", names=names)

    def done(rounds: int) -> None:
        if on_clips is not None:
            on_clips(min(len(clips), rounds * CLIPS_AT_A_TIME))

    parts = in_rounds(processes, -(-len(clips) // CLIPS_AT_A_TIME), work, done)
    summary = join_summaries(parts, "reference clips")
    from_first(processes, lambda: _write(file, summary))
    return summary


def _place(config: RunConfig, clips: list[Clip], extractor: FeatureExtractor) -> Path:
    """The file of the summary, named by everything that it depends on."""
    data, evaluation = config.data, config.evaluation
    sizes = [data.num_frames, data.fps, data.height, data.width, evaluation.height, evaluation.width]
    listed = [[*identity_of(clip), *state_of(clip)] for clip in clips]
    extracted = [extractor.distance_name, extractor.sha256, extractor.protocol]
    figures = [figure.key for figure in FIGURES if figure.clip_value is not None]
    text = json.dumps([FORM, sizes, listed, extracted, figures], sort_keys=True, default=str)
    return config.output / "data" / f"reference-features-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"


def _write(file: Path, summary: ClipSummary) -> None:
    values = {f"value.{key}": value for key, value in summary.values.items()}
    with atomic_file(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, features=summary.features, form=np.array(summary.form), **values)


def _read(file: Path, count: int) -> ClipSummary | None:
    """What `_write` wrote of `count` clips; None if it is not there or not whole, so that it is made anew."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        frames, height, width = (int(size) for size in content["form"])
        values = {key.removeprefix("value."): value for key, value in content.items() if key.startswith("value.")}
        features = content["features"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    whole = features.ndim == 2 and all(len(array) == count for array in (features, *values.values()))
    if not whole or not np.isfinite(features).all():
        return None
    return ClipSummary(features, values, (frames, height, width))
