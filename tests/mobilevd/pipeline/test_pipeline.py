"""The main job end to end, at the smallest size: run, run again, go on after a kill, own videos, wrong settings."""

import dataclasses
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

from device_runner.bundle.read import read_bundle
from export.run_bundle import generate_with_bundle
from mobilevd import pipeline
from mobilevd.cli import app
from mobilevd.codecs import load_codec
from mobilevd.commands.export import export_command
from mobilevd.commands.generate import generate_frames, settings_for
from mobilevd.commands.ladder import measure_ladder
from mobilevd.config import load_config
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.folder_lock import hold_folder
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.pipeline import export_and_measure as device
from mobilevd.pipeline.data import prepare_clips
from mobilevd.pipeline.display import Display
from mobilevd.pipeline.record import find_record
from mobilevd.pipeline.rows import plan_entries
from tests.mobilevd.unets import small_config
from tests.source import ROOT
from training.data.scenes import render_scene
from training.data.video import write_video

ADVERSARIAL = {"kind": "adversarial", "heads_learning_rate": 1e-3, "discriminator_steps_first": 1}
STAGES = [
    {
        "name": "small",
        "transforms": [{"kind": "resolution", "height": 16, "width": 32}],
        "objective": {"kind": "denoise"},
    },
    {"name": "projection", "transforms": [{"kind": "cross_attention"}]},
    {
        "name": "compressed",
        "transforms": [
            {"kind": "temporal_multiscale", "factor": 2},
            {"kind": "temporal_pruning", "keep": 3},
            {"kind": "funnels", "attention": 0.5, "convolution": 0.5},
        ],
        "objective": ADVERSARIAL,
        "training": {"steps": 4},
    },
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    # of 25 frames, as SVD-XT: the run's own number holds in every stage
    unet = SpatioTemporalUNet(**small_config(num_attention_heads=2, cross_attention_dim=96, num_frames=25))
    folder = tmp_path_factory.mktemp("base")
    unet.save_pretrained(folder)
    return folder


def config(base: Path, folder: Path, *overrides: str) -> RunConfig:
    values = {
        "name": "mini",
        "output": str(folder / "run"),
        "base": {"model": str(base), "codec": str(ROOT / "assets" / "tiny" / "codec")},
        "data": {
            "num_frames": 4, "fps": 8, "height": 32, "width": 64, "clips_per_video": 1,
            "scenes": {"train": 3, "test": 3, "seconds": 1.0, "fps": 8, "seed": 77},
        },
        "diffusion": {"num_steps": 2},
        "training": {"steps": 2, "batch_size": 2, "checkpoint_every": 1, "log_every": 1, "num_threads": 1},
        "stages": STAGES,
        "evaluation": {"clips": 2, "features": "motion", "sheet_clips": 2},
        "export": {"stages": "last"},
        "bench": {"threads": 1, "warmup": 1, "iterations": 3},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "mini.yaml"
    file.write_text(yaml.safe_dump(values))
    return load_config(file, list(overrides))


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, dict, str]:
    made = config(base, tmp_path_factory.mktemp("finished"))
    console = Console(record=True, width=160)
    return made, pipeline.run(made, console), console.export_text()


def test_the_table_has_a_row_per_model_with_its_figures(finished: tuple[RunConfig, dict, str]) -> None:
    made, results, text = finished
    names = [row["name"] for row in results["rows"]]
    assert names == ["base", "base in one step, not finetuned", "small", "projection", "compressed"]
    assert [row["nfe"] for row in results["rows"]] == [4, 1, 4, 4, 1]  # 2 guided steps are 4 evaluations
    for row in results["rows"]:
        assert {
            "name",
            "nfe",
            "distance",
            "distance_name",
            "parameters",
            "tflops",
            "host_ms",
            "device_ms",
        } <= row.keys()
        assert row["distance_name"] == "FD-motion" and row["distance"] > 0 and row["device_ms"] is None
    base, _, small, projection, last = results["rows"]
    assert base["tflops"] > 3.5 * small["tflops"]  # a quarter of the pixels
    assert projection["tflops"] < small["tflops"] and last["tflops"] < 0.8 * projection["tflops"]
    assert last["parameters"] < projection["parameters"] and last["temporal_blocks"] == 3
    assert last["host_ms"] > 0 and last["parity"]["psnr_db"] >= 100
    assert (last["delegation"]["delegates"], last["delegation"]["operators_outside"]) == (1, [])
    assert all(name in text for name in names) and "fewer" in text
    assert json.loads((made.output / "results.json").read_text())["rows"] == results["rows"]


def test_rows_are_compared_in_pairs(finished: tuple[RunConfig, dict, str]) -> None:
    made, results, text = finished
    names = [row["name"] for row in results["rows"]]
    assert [pair["rows"] for pair in results["pairs"]] == [[a, b] for a, b in itertools.combinations(names, 2)]
    assert "against_previous" not in results["rows"][0]
    for above, row in itertools.pairwise(results["rows"]):
        compared = row["against_previous"]
        assert compared["rows"] == [above["name"], row["name"]] and compared in results["pairs"]
        found = compared["distance"]
        assert found["difference"] == pytest.approx(row["distance"] - above["distance"])
        assert found["low"] <= found["difference"] <= found["high"]
        assert found["equal_within_noise"] == (found["low"] <= 0 <= found["high"])
        assert row["distance_low"] <= row["distance"] <= row["distance_high"]
    for row in results["rows"]:
        assert "features.npz" in row["files"] and (made.output / row["folder"] / "features.npz").is_file()
    assert any("2 generated clips of a row" in remark for remark in results["remarks"])
    assert (
        "±" in text and "covariance is singular" in text and "## Differences" in (made.output / "report.md").read_text()
    )


def test_a_row_without_its_features_is_judged_again(finished: tuple[RunConfig, dict, str], base: Path) -> None:
    """As rows of earlier versions are, and with the same figures; nothing is trained."""
    made, results, _ = finished
    folder = made.output / "02-projection"
    weights = folder / "model" / "diffusion_pytorch_model.safetensors"
    before, content = weights.stat().st_mtime_ns, (folder / "features.npz").read_bytes()
    (folder / "features.npz").unlink()
    again = pipeline.run(config(base, made.output.parent), Console(quiet=True))
    assert (folder / "features.npz").read_bytes() == content and weights.stat().st_mtime_ns == before
    assert {**again, "created": 0} == {**results, "created": 0}
    results["created"] = again["created"]


def test_an_exact_stage_keeps_the_distance(finished: tuple[RunConfig, dict, str]) -> None:
    """The projection of cross-attention gives the same clips, so the same figures, from the same noise."""
    _, results, _ = finished
    small, projection = results["rows"][2:4]
    assert projection["distance"] == pytest.approx(small["distance"], rel=1e-2)


def test_every_row_leaves_a_video_a_sheet_and_a_model(finished: tuple[RunConfig, dict, str]) -> None:
    made, results, _ = finished
    for folder in ("00-base", "01-small", "03-compressed"):
        with av.open(str(made.output / folder / "samples.mp4")) as video:
            stream = video.streams.video[0]
            # a line of labels, 2 clips of 128 lines below it; real beside generated, 256 pixels each
            assert (stream.height, stream.width) == (28 + 2 * 128, 2 * 256)
            assert sum(1 for _ in video.decode(stream)) == 4
        assert Image.open(made.output / folder / "contact_sheet.png").width > 200
    report = (made.output / "report.md").read_text()
    assert "FD-motion" in report and "contact_sheet.png" in report and "no phone was measured" in report
    unet = SpatioTemporalUNet.from_pretrained(made.output / "03-compressed" / "model")
    assert (
        unet.config["sample_size"] == [4, 8] and not unet.config["live_funnels"] and not unet.config["temporal_gates"]
    )
    assert unet.num_frames == 4
    assert results["rows"][-1]["parameters"] == sum(p.numel() for p in unet.parameters())


def test_the_page_shows_every_row_and_the_exported_program(finished: tuple[RunConfig, dict, str]) -> None:
    made, results, text = finished
    assert f"report: {made.output / 'report.html'}" in text
    page = (made.output / "report.html").read_text()
    assert page.count("data:video/mp4") == 2 * (1 + 5 + 1)  # two clips: real, five rows, the last one's program
    model, program = (made.output / "03-compressed" / "clips" / f"{kind}-1.mp4" for kind in ("generated", "program"))
    frames = []
    for file in (model, program):
        with av.open(str(file)) as video:
            frames.append(np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]))
    assert np.abs(frames[0].astype(int) - frames[1]).mean() < 1  # the program makes the model's clip


def copied(finished: tuple[RunConfig, dict, str], base: Path, folder: Path) -> RunConfig:
    """The finished run in a folder of its own."""
    shutil.copytree(finished[0].output, folder / "run")
    return config(base, folder)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".npz", ".pte", ".mp4")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_stage_and_what_follows_are_made_anew(
    finished: tuple[RunConfig, dict, str], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = copied(finished, base, tmp_path)
    before, last = contents(made.output), made.output / "03-compressed"

    def inodes() -> dict[str, int]:
        return {place.parent.parent.name: place.stat().st_ino for place in made.output.glob("[0-9]*/model/config.json")}

    def stopped(place: str, stage: str | None, ends: Callable[..., bool]) -> None:
        """The command, ended where `ends` is true of what the function at `place` is given."""
        module, name = importlib.import_module(place.rpartition(".")[0]), place.rpartition(".")[2]
        real = getattr(module, name)

        def wrapped(*arguments: Any) -> Any:
            if ends(*arguments):
                raise KeyboardInterrupt
            return real(*arguments)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(module, name, wrapped)
            pipeline.run(made, Console(quiet=True), None, stage)

    first = inodes()
    stopped("shutil.rmtree", "projection", lambda *_: True)
    # killed at the first folder: the last stage is gone, and none that was made from another one is there
    assert not last.exists() and inodes().keys() == {"01-small", "02-projection"}
    # whatever goes on now, the same command or the plain one, first ends what was begun
    stopped("mobilevd.pipeline.run.train_entry", None, lambda config, entry, *_: entry.name == "compressed")
    second = inodes()
    assert second["01-small"] == first["01-small"] and second["02-projection"] != first["02-projection"]
    # in the middle of the work the same command goes on, too, and does not begin once more
    results = pipeline.run(made, Console(quiet=True), None, "projection")
    assert inodes()["02-projection"] == second["02-projection"] and contents(made.output) == before
    assert [row["distance"] for row in results["rows"]] == [row["distance"] for row in finished[1]["rows"]]
    assert not [path for path in made.output.iterdir() if path.name.startswith(".tmp") or path.name == "anew.json"]
    # and it would begin once more when all is done
    stopped("mobilevd.pipeline.run.train_entry", "compressed", lambda config, entry, *_: entry.name == "compressed")
    assert not last.exists() and not (made.output / "results.json").exists()


def test_a_rehearsal_tells_what_would_be_made_anew(
    finished: tuple[RunConfig, dict, str], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = copied(finished, base, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in made.output.rglob("*")}
    told = [
        CliRunner().invoke(app, ["run", str(tmp_path / "mini.yaml"), "--dry-run", *options]).stdout
        for options in ([], ["--from", "projection"])
    ]
    assert "removed, to be" not in told[0] and "nothing is left to make" in told[0]
    folders = f"{made.output / '02-projection'}, {made.output / '03-compressed'}"
    assert f"removed, to be made anew: {folders}\n" in told[1] and "nothing is left" not in told[1]
    assert {path: path.stat().st_mtime_ns for path in made.output.rglob("*")} == before
    # a disk that is too small is told while the old stages are still there
    monkeypatch.setattr("mobilevd.pipeline.estimate._size_of", lambda folder: 0)
    monkeypatch.setattr("mobilevd.pipeline.estimate.shutil.disk_usage", lambda place: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="the run needs about"):
        pipeline.run(made, Console(quiet=True), None, "projection")
    assert before.keys() <= set(made.output.rglob("*"))


def test_a_run_exports_to_several_targets(finished: tuple[RunConfig, dict, str], base: Path, tmp_path: Path) -> None:
    copied(finished, base, tmp_path)
    before = (tmp_path / "run" / "03-compressed" / "bundle" / "unet.pte").read_bytes()
    asked = config(base, tmp_path, "export.also=[onnx:fp16,executorch-vulkan]")
    last = pipeline.run(asked, Console(quiet=True))["rows"][-1]
    folder = asked.output / "03-compressed"
    assert (folder / "bundle" / "unet.pte").read_bytes() == before and last["host_ms"] > 0
    onnx, vulkan = last["also"]
    assert (onnx["target"], onnx["precision"], onnx["bundle"]) == ("onnx", "fp16", "bundle-onnx-fp16")
    assert onnx["host_ms"] > 0 and onnx["parity"]["psnr_db"] >= 50 and read_bundle(folder / "bundle-onnx-fp16")
    assert json.loads((folder / "bench-onnx-fp16.json").read_text())["bundle"]["target"] == "onnx"
    assert vulkan["host_ms"] is None and "host_ms" in vulkan["unavailable"]
    assert vulkan["delegation"]["delegates"] == 1
    assert {"bundle-onnx-fp16/manifest.json", "bundle-executorch-vulkan-fp32/manifest.json"} <= last["files"].keys()
    page = (asked.output / "report.html").read_text()
    assert "executorch-vulkan fp32" in page and "onnx fp16, host" in page
    # another first choice takes the place of the one before, and only that is exported
    times = {place: place.stat().st_ino for place in folder.glob("bundle-*/manifest.json")}
    shown = folder / "clips" / "program-1.mp4"
    before_shown = shown.stat().st_mtime_ns
    other = config(base, tmp_path, "export.also=[onnx:fp16,executorch-vulkan]", "export.precision=8da8w")
    pipeline.run(other, Console(quiet=True))
    assert read_bundle(folder / "bundle").manifest.precision == "8da8w"
    assert {place: place.stat().st_ino for place in times} == times
    assert shown.stat().st_mtime_ns != before_shown  # what is shown as the program's is the new program's


def test_targets_that_cannot_be_are_refused_before_any_work(base: Path, tmp_path: Path) -> None:
    for override, told in (
        ("export.target=onxx", "export.target: unknown target 'onxx'; known are"),
        ("export.also=[onnx:int3]", "export.also.0: target onnx has no precision 'int3'"),
        ("export.also=[executorch-xnnpack:fp32]", "export.also.0: executorch-xnnpack:fp32 is exported already"),
        ("export.also=[executorch-qnn]", "QNN"),
    ):
        asked = config(base, tmp_path, override)
        with pytest.raises(UserError, match=re.escape(told)):
            pipeline.run(asked, Console(quiet=True))
        assert not asked.output.exists()


def test_what_a_run_did_not_write_is_not_removed(
    finished: tuple[RunConfig, dict, str], base: Path, tmp_path: Path
) -> None:
    made = copied(finished, base, tmp_path)
    (made.output / "03-compressed" / "notes.txt").write_text("mine")
    before = contents(made.output)
    with pytest.raises(UserError, match=r"03-compressed: is not replaced, because it holds .*notes\.txt"):
        pipeline.run(made, Console(quiet=True), None, "projection")
    assert contents(made.output) == before
    with pytest.raises(UserError, match="there is no such stage; the stages are small, projection, compressed"):
        pipeline.run(made, Console(quiet=True), None, "smal")


def test_the_same_command_again_says_that_all_is_done(finished: tuple[RunConfig, dict, str]) -> None:
    made, results, _ = finished
    before = {p: p.stat().st_mtime_ns for p in made.output.rglob("*") if p.is_file()}
    console = Console(record=True, width=160)
    assert pipeline.run(made, console) == results
    assert "done already" in console.export_text()
    assert before == {p: p.stat().st_mtime_ns for p in made.output.rglob("*") if p.is_file()}
    (made.output / "report.html").unlink()  # as after a run of an earlier version
    pipeline.run(made, Console(quiet=True))
    assert (made.output / "report.html").is_file()


def test_other_settings_do_not_mix_with_what_is_there(finished: tuple[RunConfig, dict, str], base: Path) -> None:
    made, _, _ = finished
    other = config(base, made.output.parent, "stages.compressed.training.learning_rate=0.5")
    with pytest.raises(UserError, match=r"03-compressed: made with other settings.*output="):
        pipeline.run(other, Console(quiet=True))
    weights = made.output / "03-compressed" / "model" / "diffusion_pytorch_model.safetensors"
    assert weights.is_file()


def test_another_protocol_judges_again_without_training_again(
    finished: tuple[RunConfig, dict, str], base: Path
) -> None:
    made, results, _ = finished
    weights = made.output / "03-compressed" / "model" / "diffusion_pytorch_model.safetensors"
    before = weights.stat().st_mtime_ns
    again = pipeline.run(config(base, made.output.parent, "evaluation.clips=3"), Console(quiet=True))
    assert again["rows"][0]["protocol"]["generated_clips"] == 3
    assert weights.stat().st_mtime_ns == before
    assert results["rows"][0]["protocol"]["generated_clips"] == 2


def test_a_picture_is_animated_with_a_model_of_the_run(finished: tuple[RunConfig, dict, str], tmp_path: Path) -> None:
    made, _, _ = finished
    picture = tmp_path / "first.png"
    Image.fromarray(render_scene(5, 1, 64, 64, 8)[0]).save(picture)  # another aspect: it is cropped
    model = made.output / "03-compressed" / "model"
    codec, steps, settings = settings_for(model, None, None)
    assert steps == 1 and settings["fps"] == 8
    unet = SpatioTemporalUNet.from_pretrained(model)
    frames = generate_frames(unet, codec, picture, seed=1, steps=steps, **settings)
    assert frames.shape == (4, 16, 32, 3) and frames.dtype == np.uint8
    with pytest.raises(UserError, match="--codec"):
        settings_for(tmp_path, None, None)
    with pytest.raises(UserError, match="no such picture"):
        generate_frames(unet, codec, tmp_path / "none.png", seed=1, steps=1)


def test_own_videos_take_the_place_of_the_procedural_ones(base: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    for seed in range(5):
        write_video(videos / f"{seed}.mp4", render_scene(seed, 10, 40, 60, 10), 10)
    (videos / "broken.mp4").write_bytes(b"not a video")
    made = config(base, tmp_path, f"data.videos={videos}", "data.holdout=0.5", "export.stages=none")
    made.stages = made.stages[:1]
    console = Console(record=True, width=200)
    results = pipeline.run(made, console)
    text = console.export_text()
    assert "1 files skipped" in text and "broken.mp4" in text
    assert len(results["rows"]) == 3 and not (made.output / "data" / "scenes-train").exists()
    listed = json.loads((made.output / "data" / "clips.json").read_text())
    split = json.loads((made.output / "data" / "split.json").read_text())
    assert sorted(split["judged"] + split["trained"]) == [f"{seed}.mp4" for seed in range(5)]
    assert (listed["train_clips"], listed["test_clips"]) == (len(split["trained"]), len(split["judged"]))
    assert "broken.mp4" in listed["skipped"][0]["file"] and listed["repeated_frames"] == {"train": 0.0, "test": 0.0}
    assert results["rows"][-1]["unavailable"]["host_ms"] == "not exported (export.stages is none)"


def test_a_tracker_that_is_not_installed_is_told_before_any_work(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.observe.trackers.find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb is asked for and not installed; `pip install wandb`"):
        pipeline.run(config(base, tmp_path, "tracking.trackers=[wandb]"), Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_bad_input_is_told_before_any_work(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.height: 30 is not divisible by 8; nearest valid: 24 or 32"):
        pipeline.run(config(base, tmp_path / "a", "data.height=30"), Console(quiet=True))
    frames = (
        r"data\.num_frames: 7 is not divisible by 2, .* stages\.compressed\.transforms\.0 .*; nearest valid: 6 or 8"
    )
    with pytest.raises(UserError, match=frames):
        pipeline.run(config(base, tmp_path / "a", "data.num_frames=7"), Console(quiet=True))
    with pytest.raises(UserError, match=r"stages\.small\.transforms\.0\.width: 36 is not divisible by 8"):
        pipeline.run(config(base, tmp_path / "b", "stages.small.transforms.0.width=36"), Console(quiet=True))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no video file"):
        pipeline.run(config(base, tmp_path / "c", f"data.videos={tmp_path / 'empty'}"), Console(quiet=True))
    write_video(tmp_path / "two" / "a.mp4", render_scene(1, 10, 40, 60, 10), 10)
    write_video(tmp_path / "two" / "b.mp4", render_scene(2, 10, 40, 60, 10), 10)
    with pytest.raises(UserError, match="1 clip to judge by; a distance needs at least 2"):
        pipeline.run(config(base, tmp_path / "e", f"data.videos={tmp_path / 'two'}"), Console(quiet=True))
    with pytest.raises(UserError, match="too short.*4 frames at 1 fps"):
        pipeline.run(config(base, tmp_path / "d", "data.fps=1"), Console(quiet=True))
    assert not (tmp_path / "a" / "run").exists()


def test_a_folder_that_another_run_holds_or_that_is_no_runs(base: Path, tmp_path: Path) -> None:
    made = config(base, tmp_path)
    with hold_folder(made.output), pytest.raises(UserError, match=rf"run: process {os.getpid()} on .* since 20"):
        pipeline.run(made, Console(quiet=True))
    assert [path.name for path in made.output.iterdir()] == [".lock"], "nothing was begun"
    (made.output / "config.json").write_text('{"name": "my web application"}')
    with pytest.raises(UserError, match=r"config.json: is not replaced, .* output=ANOTHER_FOLDER"):
        pipeline.run(made, Console(quiet=True))
    (made.output / "config.json").unlink()
    (made.output / "00-base").mkdir()
    (made.output / "00-base" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="00-base: is in the way"):
        pipeline.run(made, Console(quiet=True))
    assert (made.output / "00-base" / "thesis.tex").read_text() == "mine"
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UserError, match="file: is a file; give output=FOLDER"):
        pipeline.run(config(base, tmp_path, f"output={file}"), Console(quiet=True))


def test_a_base_of_another_architecture_names_the_first_tensor(base: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for file in base.iterdir():
        (wrong / file.name).write_bytes(file.read_bytes())
    text = json.loads((wrong / "config.json").read_text())
    (wrong / "config.json").write_text(json.dumps({**text, "cross_attention_dim": 64}))
    with pytest.raises(UserError, match=r"attn2\.to_k\.weight has shape \(32, 96\), its config says \(32, 64\)"):
        pipeline.run(config(wrong, tmp_path), Console(quiet=True))


def test_a_codec_of_another_model_is_told_before_any_work(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    SpatioTemporalUNet(**small_config(num_attention_heads=2, cross_attention_dim=64)).save_pretrained(
        tmp_path / "other"
    )
    with pytest.raises(UserError, match=r"base\.codec: .* an image embedding of width 96, base\.model wants 64"):
        pipeline.run(config(tmp_path / "other", tmp_path), Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_killed_in_the_middle_the_same_command_ends_with_the_same_weights(
    finished: tuple[RunConfig, dict, str], base: Path, tmp_path: Path
) -> None:
    made = config(base, tmp_path, "export.stages=none")
    command = [sys.executable, "-m", "mobilevd", "run", str(tmp_path / "mini.yaml"), "export.stages=none"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    checkpoint = made.output / "03-compressed" / "checkpoint"  # one is being written, or is whole already
    while not checkpoint.is_dir() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert checkpoint.is_dir() and not (made.output / "results.json").exists()
    pipeline.run(made, Console(quiet=True))
    name = Path("03-compressed") / "model" / "diffusion_pytorch_model.safetensors"
    ours, theirs = load_file(made.output / name), load_file(finished[0].output / name)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_later_stages_learn_from_a_teacher_and_the_heads_go_on(base: Path, tmp_path: Path) -> None:
    """A distilled stage has no discriminator; the adversarial one after it takes up the heads from before."""
    made = config(base, tmp_path, "export.stages=none")
    more = [
        {"name": "distilled", "objective": {"kind": "distillation"}},
        {
            "name": "pulled",
            "objective": {
                **ADVERSARIAL,
                "heads_learning_rate": 1e-12,
                "distillation_weight": 1.0,
                "teacher": "compressed",
            },
        },
    ]
    made = made.model_validate({**made.model_dump(mode="json"), "stages": [*STAGES, *more]})
    results = pipeline.run(made, Console(quiet=True))
    assert [row["nfe"] for row in results["rows"][-3:]] == [1, 1, 1]
    before, after = (
        load_file(made.output / f"{stage}" / "discriminator.safetensors") for stage in ("03-compressed", "05-pulled")
    )
    assert not (made.output / "04-distilled" / "discriminator.safetensors").exists()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)


def test_the_ladder_of_a_finished_run(finished: tuple[RunConfig, dict, str]) -> None:
    made, _, _ = finished
    results = json.loads((made.output / "results.json").read_text())  # of the configuration that the folder has now
    console = Console(record=True, width=120)
    targets = ["executorch-xnnpack:fp32", "executorch-xnnpack:int8"]
    ladder = measure_ladder(made.output, targets=targets, mixed_db=(55.0,), console=console)
    plain, full, eight, mixed = ladder["rows"]
    # as near as rounding to pixels leaves two clips: another number of threads already adds up in another order
    assert plain["distance"] == pytest.approx(results["rows"][-1]["distance"], rel=2e-2)
    assert full["distance"] == pytest.approx(plain["distance"], rel=2e-2) and full["psnr_db"] > 100
    assert eight["size_mb"] < 0.5 * full["size_mb"] and 20 < eight["psnr_db"] < 70
    assert mixed["psnr_db"] >= 55 and mixed["layers_kept_higher"] > 0 and mixed["size_mb"] < full["size_mb"]
    assert all(row["host_ms"] > 0 for row in (full, eight, mixed)) and plain["host_ms"] is None
    folder = made.output / "03-compressed" / "ladder"
    assert json.loads((folder / "ladder.json").read_text()) == ladder and (folder / "ladder.png").stat().st_size > 5000
    with pytest.raises(
        UserError, match=r"small: no trained one-step stage of this run \(its one-step stages: compressed"
    ):
        measure_ladder(made.output, stage="small", console=console)


def test_a_runs_model_is_exported_as_the_run_uses_it(finished: tuple[RunConfig, dict, str], tmp_path: Path) -> None:
    """Settings, codec and pictures come from the run; the bundle makes the clip that the model makes."""
    made, _, _ = finished
    model = made.output / "03-compressed" / "model"
    console = Console(record=True, width=160)
    export_command(model, tmp_path / "b", targets=["executorch-xnnpack"], conditioning={"fps": None}, console=console)
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert set(manifest["programs"]) == {"unet", "image_encoder", "vae_encoder", "decoder"}
    assert manifest["model"]["fps"] == 8 and (manifest["model"]["height"], manifest["model"]["width"]) == (16, 32)
    assert manifest["programs"]["unet"]["parity"]["inputs"] == "latents"
    picture = tmp_path / "picture.png"
    Image.fromarray(render_scene(5, 1, 32, 64, 8.0)[0]).save(picture)
    codec, steps, settings = settings_for(model, None, None)
    frames = generate_frames(SpatioTemporalUNet.from_pretrained(model), codec, picture, seed=3, steps=steps, **settings)
    through = generate_with_bundle(read_bundle(tmp_path / "b"), picture, 3)
    assert np.abs(frames.astype(int) - through.astype(int)).max() <= 1
    export_command(
        model, tmp_path / "u", targets=["executorch-xnnpack"], conditioning={"fps": 14}, unet_only=True, console=console
    )
    other = json.loads((tmp_path / "u" / "manifest.json").read_text())
    assert set(other["programs"]) == {"unet"} and other["model"]["fps"] == 14


def test_a_model_that_left_its_run_and_directory_is_the_same(
    finished: tuple[RunConfig, dict, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder says how it is sampled and where its codec is, whatever the working directory."""
    made, _, _ = finished
    shutil.copytree(made.output / "03-compressed" / "model", tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    inside = settings_for(made.output / "03-compressed" / "model", None, None)
    assert settings_for(Path("copy"), None, None) == inside and inside[0].is_absolute()
    assert inside[1] == 1 and inside[2]["sigma_max"] == made.diffusion.sigma_max and inside[2]["fps"] == 8
    console = Console(record=True, width=160)
    export_command(Path("copy"), Path("b"), targets=["executorch-xnnpack"], unet_only=True, console=console)
    manifest = json.loads(Path("b/manifest.json").read_text())["model"]
    assert (manifest["sigma"], manifest["fps"], manifest["num_frames"]) == (made.diffusion.sigma_max, 8, 4)
    assert "does not tell how it is sampled" not in console.export_text()
    (tmp_path / "copy" / "sampling.json").write_text("{")
    with pytest.raises(UserError, match=r"copy/sampling\.json: not valid JSON"):
        export_command(Path("copy"), Path("c"), targets=["executorch-xnnpack"])


def test_a_model_of_several_steps_is_no_program_of_one_unless_asked_for(
    finished: tuple[RunConfig, dict, str], tmp_path: Path
) -> None:
    made, _, _ = finished
    several = next(path for path in sorted(made.output.glob("0*/model")) if not find_record(path).one_step)  # type: ignore
    with pytest.raises(UserError, match=r"a model of \d+ steps; .*--one-step"):
        export_command(several, tmp_path / "b", targets=["executorch-xnnpack"], unet_only=True)
    assert not (tmp_path / "b").exists()


def test_static_int8_of_a_run_is_calibrated_on_training_clips(
    finished: tuple[RunConfig, dict, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, _ = finished
    asked = made.model_copy(update={"export": made.export.model_copy(update={"precision": "int8"})})
    codec = load_codec(asked.base.codec)
    entry = dataclasses.replace(plan_entries(asked, codec)[-1], folder=tmp_path)
    given: dict = {}
    monkeypatch.setattr(device, "export_bundle", lambda *arguments, **keywords: given.update(keywords, at=arguments))
    monkeypatch.setattr(device, "read_manifest", lambda folder: folder)
    device.export_entry(asked, entry, codec, prepare_clips(asked, Display(Console(quiet=True))))
    assert given["precision"] == "int8" and len(given["calibration"]) == 3  # as many as there are training clips
    assert all(each["image_latents"].shape == (1, 4, 4, 8) for each in given["calibration"])
    assert not any(
        torch.equal(each["image_latents"], given["inputs"]["image_latents"]) for each in given["calibration"]
    )
    settings = given["at"][2]
    assert (settings.latent_height, settings.latent_width, settings.fps) == (4, 8, 8)
