"""One crop for all rows: a generator that returns the real clips has distance 0, whatever the size of its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import PartialState
from rich.console import Console

from eval.features import load_extractor
from mobilevd.config.schema import RunConfig
from mobilevd.pipeline import evaluate
from mobilevd.pipeline.data import RunClips, prepare_clips, read_clips, spread
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.evaluate import Evaluator
from mobilevd.pipeline.held_out import read_first_frame, read_for_evaluation
from mobilevd.pipeline.latents import training_clips
from mobilevd.pipeline.rows import Entry, plan_entries
from mobilevd.pixels import resize_frames
from mobilevd.resample import centre_box, resampled
from tests.mobilevd.pipeline.judging import configuration, prepared
from training.data.scenes import render_scene
from training.data.store.decoding import decode
from training.data.store.key import key_of
from training.data.video import read_clip, write_video

CLIPS = 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, RunClips, Any, Entry]:
    """Clips of 4:3 videos in a run of 16:9 (72x128), compared at 36x64."""
    folder = tmp_path_factory.mktemp("geometry")
    for part in ("trained", "judged"):
        for seed in range(CLIPS):
            # edges as soft as the smallest row can show them: finer ones are a matter of the row's size, not of the crop
            scene = resize_frames(render_scene(seed, 8, 24, 32, 8), 192, 256)
            write_video(folder / part / f"{seed}.mp4", scene, 8)
    values = configuration(folder).model_dump(mode="json")
    values["data"] |= {"videos": str(folder / "trained"), "reference_videos": str(folder / "judged"), "shots": "none"}
    values["data"] |= {"height": 72, "width": 128}
    values["evaluation"] |= {"height": 36, "width": 64, "clips": CLIPS}
    config = RunConfig.model_validate(values)
    _, codec, _ = prepared(configuration(folder))
    entry = plan_entries(config, codec)[-1]
    return config, prepare_clips(config, Display(Console(quiet=True))), codec, entry


def distance_of_real_clips(
    run: tuple[RunConfig, RunClips, Any, Entry], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, read: Any
) -> float:
    """The distance of a row of that size whose generator returns what `read` reads of the real clips."""
    config, clips, codec, entry = run
    entry = replace(entry, height=size[0], width=size[1])
    chosen = spread(clips.test.clips, CLIPS)

    def perfect(sample: Any, codec: Any, frames: np.ndarray, seeds: Sequence[int], *_: Any) -> np.ndarray:
        made = np.stack([read(config, chosen[seed], *size) for seed in seeds])
        assert made.shape[2:] == frames.shape[1:]
        return made

    monkeypatch.setattr(evaluate, "animate", perfect)
    evaluator = Evaluator.of(config, load_extractor("motion"), codec, clips, PartialState(cpu=True))
    sampler: Any = None  # `animate` is replaced
    return evaluator.compare(entry, sampler, lambda _: None).figures["distance"]


def as_the_run_reads(config: RunConfig, clip: Any, height: int, width: int) -> np.ndarray:
    return read_clips(config, [clip], height, width)[0]


def by_its_own_crop(config: RunConfig, clip: Any, height: int, width: int) -> np.ndarray:
    return read_clip(clip.video, config.data.num_frames, config.data.fps, clip.start_s, height, width)


@pytest.mark.parametrize(
    ("size", "least"),
    [((72, 128), 0.0), ((36, 64), 5e-3), ((48, 64), 5e-3), ((40, 80), 5e-3)],
    ids=["the base's", "the evaluation's", "taller", "wider"],
)
def test_a_perfect_generator_has_no_distance(
    run: tuple[RunConfig, RunClips, Any, Entry],
    size: tuple[int, int],
    least: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the base's size exactly. A smaller row reduces its clips once more: that is all that may be seen of it."""
    found = distance_of_real_clips(run, size, monkeypatch, as_the_run_reads)
    assert found == pytest.approx(0.0, abs=least or 1e-9)
    if size[0] * 16 != size[1] * 9:  # what each size cropped by itself would score
        assert distance_of_real_clips(run, size, monkeypatch, by_its_own_crop) > 100 * least


@pytest.mark.parametrize("size", [(72, 128), (36, 64), (48, 80), (40, 80)])
def test_what_a_row_sees_is_what_it_is_compared_with(
    run: tuple[RunConfig, RunClips, Any, Entry], size: tuple[int, int]
) -> None:
    config, clips, _, _ = run
    for clip in clips.test.clips[:4]:
        seen = resize_frames(as_the_run_reads(config, clip, *size), 36, 64).astype(float)
        error = np.mean((seen - read_for_evaluation(config, clip)) ** 2)
        assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 50
        frame = read_first_frame(config, clip, *size)
        np.testing.assert_array_equal(frame, as_the_run_reads(config, clip, *size)[0])


def test_a_stage_trains_on_what_it_is_judged_by(run: tuple[RunConfig, RunClips, Any, Entry]) -> None:
    config, clips, codec, entry = run
    stage = replace(entry, height=40, width=80)
    trained = training_clips(config, clips.train, stage)
    pixels = decode(trained.job(trained.groups[0], 0)).pixels
    np.testing.assert_array_equal(pixels, as_the_run_reads(config, clips.train.clips[0], 40, 80))
    assert key_of(trained, codec)["sizes"] == ["40x80 (crop 1.7778)"]
    assert key_of(training_clips(config, clips.train, replace(entry, height=36, width=64)), codec)["sizes"] == ["36x64"]
    several = config.model_copy(update={"data": config.data.model_copy(update={"aspect_ratios": [1.0, 2.0]})})
    buckets = training_clips(several, clips.train, stage)
    assert not any(group.is_stretched for group in buckets.groups)  # sizes of their own are there to keep shapes


def test_the_crop_is_the_largest_in_the_middle() -> None:
    assert centre_box(192, 256, 16 / 9) == pytest.approx((0, 24, 256, 168))  # 256 / (16 / 9) is 144
    assert centre_box(192, 256, 1.0) == pytest.approx((32, 0, 224, 192))


def test_resizing_is_the_same_wherever_it_is_done() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 60, 3), dtype=np.uint8)
    small = resize_frames(frames, 20, 25)
    assert small.shape == (2, 3, 20, 25, 3)
    np.testing.assert_array_equal(small[1, 2], resampled(frames[1, 2], 20, 25))
    flat = np.full((2, 40, 60, 3), 77, np.uint8)
    assert (resize_frames(flat, 17, 90) == 77).all()


def test_weights_of_another_crop_are_others(run: tuple[RunConfig, RunClips, Any, Entry], tmp_path: Path) -> None:
    """A stage of another shape was cropped otherwise before, under the same settings: its fingerprint tells."""
    config, _, codec, _ = run
    values = config.model_dump(mode="json")
    values["stages"][0]["transforms"] = [{"kind": "resolution", "height": 32, "width": 64}]
    stretched = plan_entries(RunConfig.model_validate(values), codec)[-1]
    values["data"]["aspect_ratios"] = [1.78]
    assert stretched.fingerprint != plan_entries(RunConfig.model_validate(values), codec)[-1].fingerprint
