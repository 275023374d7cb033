"""`mobilevd evaluate` on folders as they are: broken, short, nested, unequal; interrupted; in parts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mobilevd.commands.evaluate_side as side_module
from eval.distances.frechet import frechet_distance
from eval.features import load_extractor
from eval.figures import clip_values
from eval.frames.psnr import clip_psnr
from eval.motion_encoder import MotionEncoderExtractor
from eval.protocol_settings import FOLDER as PROTOCOLS
from mobilevd.cli import app
from mobilevd.commands.evaluate_clips import ClipChoice, ClipForm, ClipRun, read_run
from training.data.scenes import render_scene
from training.data.video import read_clip, write_video
from training.data.video_stream import VideoInfo
from training.data.videos import as_video

FPS, HEIGHT, WIDTH = 8, 32, 64
COUNT = 5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """F/generated and F/reference: five videos each, in subfolders and containers of several kinds."""
    folder = tmp_path_factory.mktemp("folders")
    for i in range(COUNT):
        name = f"{'deep/er/' if i % 2 else ''}{i}"
        for what, seed, frames, suffix in (
            ("generated", i, 8, ".mkv" if i == 2 else ".mp4"),
            ("reference", 50 + i, 20, ".mp4"),
        ):
            path = folder / what / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, render_scene(seed, frames, HEIGHT, WIDTH, FPS), FPS)
    return folder


@pytest.fixture
def place(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of this test, with links to the videos of `folders`."""
    monkeypatch.setenv("COLUMNS", "300")
    for what in ("generated", "reference"):
        (tmp_path / what).mkdir()
        (tmp_path / what / "all").symlink_to(folders / what)
    return tmp_path


def evaluate(place: Path, *options: str, code: int = 0) -> tuple[dict[str, Any], str]:
    words = ["evaluate", "--generated", f"{place}/generated", "--json", f"{place}/result.json", *options]
    if "--no-reference" in words:
        words.remove("--no-reference")
    else:
        words += ["--reference", f"{place}/reference"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code, result.output
    if code:
        assert len(result.output.strip().splitlines()) == 1, result.output
        return {}, result.output
    return json.loads((place / "result.json").read_text()), result.output


def test_the_figures_are_those_of_the_clips(place: Path) -> None:
    result, output = evaluate(place, "--per-clip", f"{place}/clips.csv")
    paths = {what: sorted((place / what / "all").rglob("*.m*")) for what in ("generated", "reference")}
    clips = {
        what: np.stack([read_clip(path, 8, FPS, 0.0, HEIGHT, WIDTH) for path in found]) for what, found in paths.items()
    }
    extractor = load_extractor("motion")
    features = {what: extractor(array) for what, array in clips.items()}
    expected = frechet_distance(features["generated"], features["reference"])
    assert result["distance"] == pytest.approx(expected, rel=1e-5)
    motion = {what: clip_values(array)["motion_ratio"] for what, array in clips.items()}
    assert result["motion_ratio"] == pytest.approx(motion["generated"].mean() / motion["reference"].mean(), rel=1e-9)
    assert result["protocol"]["generated_clips"] == result["protocol"]["reference_clips"] == COUNT
    assert result["protocol"]["frames"] == 8 and result["protocol"]["fps"] == FPS
    assert output.startswith(f"FD-motion {result['distance']:.4f} ± {result['high'] - result['distance']:.2g}, ")
    assert f", motion ratio {result['motion_ratio']:.3f}\n" in output
    rows = list(csv.DictReader((place / "clips.csv").open()))
    assert [row["set"] for row in rows] == ["generated"] * COUNT + ["reference"] * COUNT
    names = [f"all/{path.relative_to(place / 'generated' / 'all')}" for path in paths["generated"]]
    assert {row["clip"]: float(row["motion_ratio"]) for row in rows[:COUNT]} == pytest.approx(
        dict(zip(names, motion["generated"], strict=True))
    )
    scores = {row["clip"]: float(row["outlier_score_motion"]) for row in rows[:COUNT]}
    assert result["outliers"][0] == {"clip": max(scores, key=scores.__getitem__), "score": max(scores.values())}


def test_broken_and_short_videos_are_left_out_and_told(place: Path) -> None:
    expected, _ = evaluate(place)
    (place / "generated" / "a.mp4").write_bytes(b"no video")
    write_video(place / "reference" / "short.mp4", render_scene(1, 3, HEIGHT, WIDTH, FPS), FPS)
    (place / "reference" / "notes.txt").write_text("no video, and not taken for one")
    options = ("--num-frames", "8", "--fps", str(FPS), "--size", f"{WIDTH}x{HEIGHT}")
    result, output = evaluate(place, *options)
    assert result["distance"] == expected["distance"]
    assert "generated: 1 of 6 videos cannot be read: " in output and "a.mp4: broken or not a video" in output
    assert (
        "reference: 1 of 6 videos too short: " in output
        and "short.mp4: 0.38 s long, 8 frames at 8 fps take 1.00 s" in output
    )
    assert len(result["left_out"]["generated"]["unreadable"]) == len(result["left_out"]["reference"]["too_short"]) == 1
    _, told = evaluate(place, "--max-broken", "0", code=2)
    assert "more than 0 of its 6 videos cannot be read" in told and "a.mp4" in told and "--max-broken" in told
    (place / "generated" / "b.mp4").write_bytes(b"")
    assert "more than 1 of its 7 videos cannot be read" in evaluate(place, code=2)[1]
    assert evaluate(place, "--max-broken", "30%")[0]["distance"] == expected["distance"]
    assert "2 are needed at least" in evaluate(place, "--max-broken", "5", "--num-frames", "50", code=2)[1]


def test_a_video_damaged_after_its_header(place: Path) -> None:
    whole = (place / "reference" / "all" / "0.mp4").read_bytes()
    at = whole.index(b"mdat")
    (place / "reference" / "damaged.mp4").write_bytes(
        whole[: at + 40] + bytes(len(whole) - at - 40 - 1500) + whole[-1500:]
    )
    result, output = evaluate(place)
    (reason,) = result["left_out"]["reference"]["unreadable"]
    assert "damaged.mp4" in reason and "damaged.mp4" in output
    assert result["protocol"]["reference_clips"] == COUNT


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--fps 0", "--fps 0.0: above 0 is wanted"),
        ("--fps -3", "--fps -3.0: above 0"),
        ("--num-frames 1", "--num-frames 1: 2 or more"),
        ("--size 320", "--size 320: WIDTHxHEIGHT"),
        ("--size 0x10", "--size 0x10: WIDTHxHEIGHT"),
        ("--clips-per-video 0", "--clips-per-video 0: a number from 1 on, or all"),
        ("--sampling last", "--sampling last: first or random"),
        ("--metrics distance,motoin", "motoin: unknown; did you mean motion?"),
        ("--metrics fid", "--fid-network FILE"),
        ("--max-broken many", "--max-broken many: a number of videos"),
        ("--batch-size 0", "--batch-size 0: 1 or more"),
        ("--device tpu", "--device tpu: auto, cpu, cuda or mps"),
    ],
)
def test_wrong_options_are_told_before_any_work(tmp_path: Path, options: str, told: str) -> None:
    words = ["evaluate", "--generated", str(tmp_path), "--reference", str(tmp_path), *options.split()]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and told in result.output and len(result.output.strip().splitlines()) == 1


def test_folders_that_hold_nothing(place: Path) -> None:
    for what, told in (("nowhere", "nowhere does not exist"), ("empty", "empty: no video file in it")):
        (place / "empty").mkdir(exist_ok=True)
        result = CliRunner().invoke(
            app, ["evaluate", "--generated", f"{place}/generated", "--reference", f"{place}/{what}"]
        )
        assert result.exit_code == 2 and told in result.output and len(result.output.strip().splitlines()) == 1
    assert "--reference FOLDER is wanted" in evaluate(place, "--no-reference", code=2)[1]


def test_pairs_by_name(place: Path) -> None:
    metrics = ("--metrics", "psnr,ssim,warping,flicker")
    result, output = evaluate(place, *metrics, "--paired", "--per-clip", f"{place}/clips.csv")
    values = []
    for i in range(COUNT):
        found = [next((place / what / "all").rglob(f"{i}.*")) for what in ("generated", "reference")]
        values.append(clip_psnr(*(read_clip(path, 8, FPS, 0.0, HEIGHT, WIDTH) for path in found)))
    assert result["psnr_db"] == pytest.approx(np.mean(values))
    assert 0 < result["ssim"] < 1 and result["warping_error"] > result["reference_warping_error"] > 0
    assert "distance" not in result and "motion_ratio" not in result
    write_video(place / "generated" / "lonely.mp4", render_scene(9, 8, HEIGHT, WIDTH, FPS), FPS)
    told = "1 of 6 generated videos have no reference of their name (lonely.mp4)"
    assert f"--paired: {told}" in evaluate(place, *metrics, "--paired", code=2)[1]
    result, output = evaluate(place, *metrics)
    assert result["unavailable"] == {"psnr": told, "ssim": told} and f"psnr unavailable: {told}" in output
    assert result["flicker"] > 0 and result["reference_flicker"] > 0  # each along its own flow


def test_reference_features_are_written_read_and_checked(place: Path) -> None:
    file = ("--reference-features", f"{place}/reference.npz")
    first, _ = evaluate(place, *file)
    assert (place / "reference.npz").exists() and not list(place.glob("*.partial"))
    with np.load(place / "reference.npz", allow_pickle=False) as arrays:
        assert arrays["features.motion"].shape == (COUNT, 32)
    for options in ((), ("--no-reference",)):
        again, _ = evaluate(place, *file, *options)
        assert again["distance"] == first["distance"] and again["motion_ratio"] == first["motion_ratio"]
    told = evaluate(place, *file, "--size", "48x32", "--no-reference", code=2)[1]
    assert "reference.npz: made with size 64x32, but 48x32 is wanted now" in told
    told = evaluate(place, *file, "--metrics", "distance", "--no-reference", code=2)[1]
    assert "reference.npz: made with figures motion, but none is wanted now" in told
    write_video(place / "reference" / "one_more.mp4", render_scene(9, 8, HEIGHT, WIDTH, FPS), FPS)
    assert "made with videos [5," in evaluate(place, *file, code=2)[1]
    whole = (place / "reference.npz").read_bytes()
    (place / "reference.npz").write_bytes(whole[: len(whole) // 2])
    assert "holds no features of clips" in evaluate(place, *file, code=2)[1]


def test_an_interrupted_start_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = evaluate(place, "--batch-size", "2")
    calls = []
    computed = MotionEncoderExtractor.__call__

    def fails_at_third(self: MotionEncoderExtractor, clips: np.ndarray) -> np.ndarray:
        calls.append(len(clips))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return computed(self, clips)

    options = ("--batch-size", "2", "--reference-features", f"{place}/reference.npz")
    monkeypatch.setattr(MotionEncoderExtractor, "__call__", fails_at_third)
    words = ["evaluate", "--generated", f"{place}/generated", "--reference", f"{place}/reference", *options]
    assert CliRunner().invoke(app, words).exit_code == 130
    assert calls == [2, 2, 1] and not (place / "reference.npz").exists()
    result, _ = evaluate(place, *options)
    assert result["from_cache"] == 4 and calls[3] == 1
    assert result["distance"] == pytest.approx(expected["distance"], rel=1e-9)
    assert not list(place.glob("*.partial"))


def test_the_cache_goes_by_content(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ("--cache", f"{place}/cache")
    first, _ = evaluate(place, *cache)
    read = []
    monkeypatch.setattr(side_module, "read_run", lambda run, form: read.append(run.video.name) or read_run(run, form))
    assert first["from_cache"] == 0
    again, _ = evaluate(place, *cache)
    assert again["from_cache"] == 2 * COUNT and not read
    assert again["distance"] == first["distance"] and again["motion_ratio"] == first["motion_ratio"]
    # a video of another name and the same bytes is known, one of the same name and other bytes is not
    (place / "generated" / "all").unlink()
    for i in range(COUNT):
        write_video(place / "generated" / f"{i}.mp4", render_scene(i, 8, HEIGHT, WIDTH, FPS), FPS)
    changed = place / "generated" / "0.mp4"
    assert evaluate(place, *cache)[0]["from_cache"] >= 2 * COUNT - 1  # but for the .mkv, which is another container
    write_video(changed, render_scene(99, 8, HEIGHT, WIDTH, FPS), FPS)
    read.clear()
    evaluate(place, *cache)
    assert read == ["0.mp4"]
    assert evaluate(place, *cache, "--num-frames", "4")[0]["from_cache"] == 0


def test_features_that_are_no_numbers_name_the_clip(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = MotionEncoderExtractor.__call__

    def broken(self: MotionEncoderExtractor, clips: np.ndarray) -> np.ndarray:
        features = computed(self, clips)
        features[1, 3] = np.nan
        return features

    monkeypatch.setattr(MotionEncoderExtractor, "__call__", broken)
    assert "all/2.mp4: its features of motion are no numbers (NaN or infinity)" in evaluate(place, code=2)[1]


def test_which_clips_of_a_video() -> None:
    form, info = ClipForm(4, 8, HEIGHT, WIDTH), VideoInfo(2.5, 8, WIDTH, HEIGHT, 20)
    assert ClipChoice().starts(info, form, "a") == [0]
    assert ClipChoice(None).starts(info, form, "a") == [0, 0.5, 1.0, 1.5, 2.0]  # 20 frames are five clips of 4
    assert ClipChoice(3).starts(info, form, "a") == [0, 0.5, 1.0]
    drawn = ClipChoice(3, "random", 1).starts(info, form, "a")
    assert drawn == sorted(drawn) and len(set(drawn)) == 3 and 0 <= drawn[0] and drawn[-1] <= 2.125
    assert drawn == ClipChoice(3, "random", 1).starts(info, form, "a")
    assert (
        drawn
        != ClipChoice(3, "random", 2).starts(info, form, "a")
        != ClipChoice(3, "random", 2).starts(info, form, "b")
    )
    assert ClipChoice(None).starts(VideoInfo(0.375, 8, WIDTH, HEIGHT, 3), form, "a") == []


def test_clips_in_one_go_are_the_clips_one_by_one(folders: Path) -> None:
    video, form = as_video(folders / "reference" / "0.mp4"), ClipForm(4, 8, HEIGHT, WIDTH)
    together = read_run(ClipRun(video, 0.5, 4), form)
    for k, clip in enumerate(together):
        assert np.array_equal(clip, read_clip(video, 4, 8, 0.5 + 0.5 * k, HEIGHT, WIDTH))
    partly = read_run(ClipRun(video, 1.5, 3), form)  # the third one would begin where the video ends
    assert [isinstance(clip, str) for clip in partly] == [False, False, True] and "too short" in str(partly[2])


def test_all_clips_and_a_manifest(place: Path) -> None:
    result, _ = evaluate(place, "--clips-per-video", "all", "--num-frames", "4")
    assert result["protocol"]["generated_clips"] == 2 * COUNT and result["protocol"]["reference_clips"] == 5 * COUNT
    assert all(each["clip"].endswith((" at 0.00 s", " at 0.50 s")) for each in result["outliers"])
    rows = "".join(f"reference/all/{path.name}\n" for path in sorted((place / "reference" / "all").glob("*.mp4")))
    (place / "list.csv").write_text("path\n" + rows)
    words = [
        "evaluate",
        "--generated",
        f"{place}/generated",
        "--reference",
        f"{place}/list.csv",
        "--json",
        f"{place}/b.json",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert json.loads((place / "b.json").read_text())["protocol"]["reference_clips"] == rows.count("\n")


def test_a_protocol_gives_its_distance_an_interval_and_a_line_for_a_paper(place: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        (PROTOCOLS / "motion.yaml").read_text().replace("name: motion\n", "name: own\n").replace("ddof: 1", "ddof: 0")
    )
    result, output = evaluate(place, "--protocol", "motion", "--protocol", str(own))
    plain, _ = evaluate(place)
    by_name = result["protocols"]
    assert by_name["motion"]["distance"] == pytest.approx(plain["distance"], rel=1e-9) == result["distance"]
    assert by_name["own"]["distance"] != pytest.approx(plain["distance"], rel=1e-3)  # covariances over n
    for found in by_name.values():
        assert found["low"] < found["distance"] < found["high"] and f"{found['distance']:.4g}" in found["paper_line"]
    assert "by protocol own" in output and "not compared with each other" in output
    assert any("singular" in remark for remark in by_name["own"]["remarks"])  # 5 clips, 32 features


def test_a_protocol_says_which_clips_are_read(place: Path, tmp_path: Path) -> None:
    text = (PROTOCOLS / "motion.yaml").read_text()
    (tmp_path / "six.yaml").write_text(text.replace("name: motion\n", "name: six\nnum_frames: 6\nfps: 4.0\n"))
    (tmp_path / "four.yaml").write_text(text.replace("name: motion\n", "name: four\nnum_frames: 4\n"))
    _, output = evaluate(place, "--protocol", f"{tmp_path}/six.yaml", "--protocol", f"{tmp_path}/four.yaml", code=2)
    assert "--num-frames: the protocols differ (six 6, four 4)" in output
    result, output = evaluate(place, "--protocol", f"{tmp_path}/four.yaml")
    assert result["protocol"]["frames"] == 4 and not result["protocols"]["four"]["departures"]
    result, output = evaluate(place, "--protocol", f"{tmp_path}/four.yaml", "--num-frames", "5")
    assert "frames: 5 where 4 is meant" in output


def test_weights_without_a_protocol_and_an_unknown_protocol_are_refused(place: Path) -> None:
    assert "also --protocol" in evaluate(place, "--weights", str(place), code=2)[1]
    assert "did you mean stylegan-v" in evaluate(place, "--protocol", "stylegan", code=2)[1]
    _, output = evaluate(place, "--protocol", "stylegan-v", "--weights", str(place), code=2)
    assert "i3d_torchscript.pt: not found" in output
