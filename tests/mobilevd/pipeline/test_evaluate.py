"""Evaluation by shares: the figures are those of all clips at once, in one process and in two; errors end both."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import PartialState
from PIL import Image

from eval.features import load_extractor
from eval.protocol import evaluate_clips
from mobilevd.config.schema import RunConfig
from mobilevd.diffusion.animate import animate
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline import held_out
from mobilevd.pipeline.data import read_clips
from mobilevd.pipeline.evaluate import Evaluator, sampler_of
from mobilevd.pipeline.reference import summarize_reference
from mobilevd.pixels import resize_frames
from tests.launch import launch_script
from tests.mobilevd.pipeline.judging import CLIPS, Failing, configuration, judge, prepared, validate
from training.observe.log import TrainingLog, read_log
from training.observe.report import Observers

SCRIPT = """
import json, sys
from pathlib import Path
from accelerate import PartialState
from mobilevd.pipeline.evaluate import Evaluator
from tests.mobilevd.pipeline.judging import Failing, configuration, judge, prepared, validate
state = PartialState(cpu=True)
folder = Path(sys.argv[1])
with state.main_process_first():
    config = configuration(folder)
    prepared(config)
seen = judge(config, state)
found = {"result": seen["result"], "shown": seen["generated"].tolist(), "real": seen["real"].tolist(), "done": seen["done"]}
found["validation"] = validate(config, state)
found["sharded"] = validate(config, state, sharded=True)
try:
    clips, codec, _ = prepared(config)
    Evaluator.of(config, Failing(state.process_index, 1), codec, clips, state)
except Exception as error:
    found["error"] = [type(error).__name__, str(error)]
(folder / f"rank{state.process_index}.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, dict[str, Any]]:
    config = configuration(tmp_path_factory.mktemp("alone"))
    return config, judge(config, PartialState(cpu=True))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What each of two processes saw of an evaluation, a validation and an error in one."""
    folder = tmp_path_factory.mktemp("two")
    launch_script(folder, SCRIPT, folder)
    return folder, [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_the_figures_are_those_of_all_clips_in_memory_at_once(alone: tuple[RunConfig, dict[str, Any]]) -> None:
    config, seen = alone
    clips, codec, entry = prepared(config)
    test, evaluation = clips.test.clips, config.evaluation
    size = evaluation.height, evaluation.width
    reference = resize_frames(read_clips(config, test, config.data.height, config.data.width), *size)
    chosen = [test[i * len(test) // CLIPS] for i in range(CLIPS)]
    real = read_clips(config, chosen, entry.height, entry.width)
    sample = sampler_of(config, entry, SpatioTemporalUNet.from_pretrained(entry.model))
    parts = [
        animate(sample, codec, real[i : i + 2, 0], [i, i + 1][: CLIPS - i], config.data, config.diffusion)
        for i in range(0, CLIPS, 2)
    ]
    generated = np.concatenate(parts)
    conditions = resize_frames(real[:, 0], *size)
    small = resize_frames(generated, *size)
    whole = evaluate_clips(small, reference, load_extractor("motion"), fps=8, conditions=conditions)
    assert whole.keys() <= seen["result"].keys() and seen["result"]["kernel_distance"] is not None
    assert seen["kept"].features.shape == (1, CLIPS, 32)
    for key in ("distance", "motion_ratio", "first_frame"):
        assert seen["result"][key] == pytest.approx(whole[key], rel=1e-6), key
    assert seen["result"]["protocol"] == whole["protocol"] and whole["protocol"]["reference_clips"] == CLIPS + 2
    np.testing.assert_array_equal(seen["generated"], generated[:3])
    np.testing.assert_array_equal(seen["real"], real[:3])
    assert seen["done"] == [2, 4, 6, 7]


def test_two_processes_find_the_same(
    alone: tuple[RunConfig, dict[str, Any]], two: tuple[Path, list[dict[str, Any]]]
) -> None:
    _, seen = alone
    for found in two[1]:
        assert found["result"] == seen["result"]
        np.testing.assert_array_equal(np.array(found["shown"]), seen["generated"])
        np.testing.assert_array_equal(np.array(found["real"]), seen["real"])
    assert two[1][0]["done"] == [4, 7]


def test_an_error_in_one_process_ends_both_with_one_message(two: tuple[Path, list[dict[str, Any]]]) -> None:
    assert two[1][1]["error"] == ["UserError", "clip 5 is damaged"]
    assert two[1][0]["error"] == ["ToldByAnother", "process 1: clip 5 is damaged"]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The clips that are read for the reference from here on."""
    read: list[Any] = []
    from mobilevd.pipeline import reference

    def count(config: RunConfig, clip: Any) -> np.ndarray:
        read.append(clip)
        return held_out.read_for_evaluation(config, clip)

    monkeypatch.setattr(reference, "read_for_evaluation", count)
    return read


def test_real_clips_are_read_once_and_again_only_for_what_changed(
    alone: tuple[RunConfig, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, seen = alone
    clips, _, _ = prepared(config)
    state, extractor = PartialState(cpu=True), load_extractor("motion")
    read = counted(monkeypatch)

    def again(changed: RunConfig = config) -> Any:
        read.clear()
        return summarize_reference(changed, clips.test.clips, extractor, state)

    kept = again()
    assert not read
    np.testing.assert_array_equal(kept.features, seen["reference"].features)
    np.testing.assert_array_equal(kept.values["motion_ratio"], seen["reference"].values["motion_ratio"])
    (file,) = (config.output / "data").glob("reference-features-*.npz")
    file.write_bytes(file.read_bytes()[:300])  # torn by a crash of the machine
    assert len(again()) == len(read) == CLIPS + 2
    assert (
        again(configuration(config.output.parent, height=16, width=32)).form == (4, 16, 32) and len(read) == CLIPS + 2
    )
    changed = clips.test.clips[0].video.path
    os.utime(changed, (0, 0))
    again()
    assert len(read) == CLIPS + 2


def test_a_file_with_objects_is_not_loaded(
    alone: tuple[RunConfig, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = alone
    clips, _, _ = prepared(config)
    extractor, state = load_extractor("motion"), PartialState(cpu=True)
    summarize_reference(config, clips.test.clips, extractor, state)
    for file in (config.output / "data").glob("reference-features-*.npz"):
        with file.open("wb") as stream:
            np.savez(stream, features=np.array([{"a": 1}] * (CLIPS + 2), dtype=object), form=np.array([4, 24, 48]))
    read = counted(monkeypatch)
    assert len(summarize_reference(config, clips.test.clips, extractor, state)) == len(read) == CLIPS + 2


def test_half_precision_changes_the_clips_a_little(alone: tuple[RunConfig, dict[str, Any]]) -> None:
    config, seen = alone
    half = judge(configuration(config.output.parent, mixed_precision="bf16"), PartialState(cpu=True))
    difference = np.abs(half["generated"].astype(int) - seen["generated"])
    assert 0 < difference.mean() < 3 and half["generated"].dtype == np.uint8


def test_several_seeds_are_sets_of_clips_with_other_noise(alone: tuple[RunConfig, dict[str, Any]]) -> None:
    config, seen = alone
    two = judge(configuration(config.output.parent, seeds=2, extrapolate=True), PartialState(cpu=True))
    result, features = two["result"], two["kept"].features
    assert features.shape == (2, CLIPS, 32)
    np.testing.assert_array_equal(features[0], seen["kept"].features[0])  # the first set is that of one seed
    moved = judge(configuration(config.output.parent, seed=CLIPS), PartialState(cpu=True))
    np.testing.assert_array_equal(features[1], moved["kept"].features[0])
    assert result["distance"] == pytest.approx((seen["result"]["distance"] + moved["result"]["distance"]) / 2)
    spread = abs(seen["result"]["distance"] - moved["result"]["distance"]) / 2**0.5
    assert result["distance_deviation"] == pytest.approx(spread)
    assert (result["protocol"]["generated_clips"], result["protocol"]["noise_seeds"]) == (CLIPS, 2)
    assert two["done"][-1] == 2 * CLIPS and len(two["generated"]) == 3
    assert "distance_infinite" not in result  # of 7 clips nothing can be said


def test_a_clip_without_numbers_is_named(
    alone: tuple[RunConfig, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from eval.motion_encoder import MotionEncoderExtractor
    from mobilevd.errors import UserError

    original = MotionEncoderExtractor.__call__

    def broken(self: Any, clips: np.ndarray) -> np.ndarray:
        features = original(self, clips)
        features[len(clips) - 1] = np.nan
        return features

    monkeypatch.setattr(MotionEncoderExtractor, "__call__", broken)
    name = (
        r"generated clips: .*, clip 1 \(seed 1, from .*scene-.*\.mp4 at \d\.\d\d s\): its features of FD-motion are NaN"
    )
    with pytest.raises(UserError, match=name):
        judge(alone[0], PartialState(cpu=True))


def test_few_clips_are_remarked_on_with_their_numbers(alone: tuple[RunConfig, dict[str, Any]]) -> None:
    config, _ = alone
    clips, codec, _ = prepared(config)
    evaluator = Evaluator.of(config, load_extractor("motion"), codec, clips, PartialState(cpu=True))
    assert [remark.split(" are ")[0] for remark in evaluator.remarks()] == [
        f"{CLIPS} generated clips of a row", f"{CLIPS + 2} reference clips",
    ]  # fmt: skip


def test_clips_are_let_go_as_soon_as_they_are_summarized(
    alone: tuple[RunConfig, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No array holds more than a batch of clips: memory does not grow with their number."""
    config, _ = alone
    largest = 0
    original: Callable[..., Any] = np.concatenate

    def watched(arrays: Any, *rest: Any, **options: Any) -> Any:
        nonlocal largest
        joined = original(arrays, *rest, **options)
        largest = max(largest, joined.nbytes if joined.ndim == 5 else 0)
        return joined

    monkeypatch.setattr(np, "concatenate", watched)
    judge(config, PartialState(cpu=True))
    assert largest <= config.evaluation.sheet_clips * 4 * 32 * 64 * 3


def test_a_validation_writes_shows_and_tells(
    alone: tuple[RunConfig, dict[str, Any]], two: tuple[Path, list[dict[str, Any]]]
) -> None:
    config, _ = alone
    stage = config.output / "01-pruned"
    figures = validate(config, PartialState(cpu=True), Observers([TrainingLog(stage)]))
    assert figures["distance_low"] < figures["distance"] < figures["distance_high"] and figures["motion_ratio"] > 0
    (line,) = read_log(stage).validations
    assert line["figures"] == figures
    assert {name: (stage / file).is_file() for name, file in line["files"].items()} == {
        "video": True, "sheet": True, "gates": True,
    }  # fmt: skip
    with Image.open(stage / "validation" / "step-000010.png") as sheet:
        assert sheet.width > 4 * 64
    for found in two[1]:  # the same in two processes, of which one makes a batch once more
        for key in ("distance", "distance_low", "distance_high", "motion_ratio"):
            assert found["validation"][key] == figures[key], key
            assert found["sharded"][key] == pytest.approx(figures[key], rel=1e-3), key
    video = "validation/step-000010.mp4"
    assert (two[0] / "run" / "01-pruned" / video).read_bytes() == (stage / video).read_bytes()


def test_too_few_clips_are_told(alone: tuple[RunConfig, dict[str, Any]]) -> None:
    from mobilevd.errors import UserError

    config, _ = alone
    clips, codec, _ = prepared(config)
    del clips.test.clips[1:]
    with pytest.raises(UserError, match="1 clip to judge by; a distance needs at least 2"):
        Evaluator.of(config, Failing(0, 1), codec, clips, PartialState(cpu=True))
