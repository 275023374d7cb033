"""Every command in the documents: its options are there, and it is run on a run, a bundle and videos made here.

What stands for the reader's own things (MODEL, OURS) lies under these names in the folder that the commands run in.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

from mobilevd.cli import app
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.shipped import SHIPPED
from tests.mobilevd.unets import small_config
from tests.source import ROOT
from training.data.scenes import render_scene
from training.data.video import write_video

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]


def documented() -> Iterator[str]:
    """The command lines in the documents' blocks, without comments; of lines joined by && each."""
    for document in DOCUMENTS:
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for command in re.sub(r"\s+#.*$", "", line).split("&&"):
                    if command.strip():
                        yield " ".join(command.split())


COMMANDS = sorted({command for command in documented() if command.startswith("mobilevd ")})
RUN: dict[str, str | None] = {
    "mobilevd init DIR": None,
    "mobilevd weights": None,
    "mobilevd doctor": None,
    "mobilevd report RUN": None,
    "mobilevd report RUN OTHER_RUN --out both.html": None,
    "mobilevd evaluate --generated OURS --reference REAL": None,
    "mobilevd evaluate --generated DIR --reference DIR": "mobilevd evaluate --generated OURS --reference REAL",
    # the networks are not at hand: the motion encoder in the place of I3D, and no LPIPS
    "mobilevd evaluate --generated OURS --reference REAL --features i3d:i3d_torchscript.pt --num-frames 16 --fps 7 "
    "--size 224x224 --clips-per-video all --reference-features real.npz --cache cache.sqlite --per-clip clips.csv "
    "--json result.json": "mobilevd evaluate --generated OURS --reference REAL --features motion --num-frames 16 --fps 7 "
    "--size 224x224 --clips-per-video all --reference-features real.npz --cache cache.sqlite --per-clip clips.csv "
    "--json result.json",
    "mobilevd evaluate --generated OURS --reference REAL --paired --metrics psnr,ssim,lpips,warping,flicker": (
        "mobilevd evaluate --generated OURS --reference REAL --paired --metrics psnr,ssim,warping,flicker"
    ),
    "mobilevd export MODEL --out BUNDLE": "mobilevd export MODEL --out fp32",
    "mobilevd export MODEL --out BUNDLE --codec CODEC": "mobilevd export MODEL --out plain --codec CODEC",
    "mobilevd export MODEL --out BUNDLE --codec CODEC --images PICTURES": None,
    "mobilevd generate --bundle BUNDLE --image cat.png --out cat.mp4": None,
    # this host in the place of the phone
    "mobilevd bench BUNDLE --device adb": "mobilevd bench BUNDLE --device host --protocol quick --json old.json",
    "mobilevd bench BUNDLE --device adb --protocol thorough --json new.json --html new.html": (
        "mobilevd bench BUNDLE --device host --protocol quick --json new.json --html new.html"
    ),
    "mobilevd compare old.json new.json --threshold 5%": None,
    "mobilevd compare --baseline old1.json old2.json old3.json --candidate new1.json new2.json new3.json": None,
    "mobilevd bench --blocks MODEL --device adb --json table.json": (
        "mobilevd bench --blocks MODEL --device host --iterations 3 --warmup 1 --json table.json"
    ),
    "mobilevd bench --blocks PRUNED --predict table.json": "mobilevd bench --blocks MODEL --predict table.json",
}
"""Commands that are run here, in this order; the text is what is run where they cannot be run as they are."""
NOT_RUN = {
    "mobilevd ladder RUN": "takes minutes; tests/mobilevd/pipeline/test_pipeline.py runs it",
    "mobilevd export MODEL --out DIR --target executorch-xnnpack:int8 --target onnx:fp16 --target coreml": (
        "takes minutes; tests/export/test_export_command.py runs several targets"
    ),
    "mobilevd export MODEL --out BUNDLE --min-psnr 50": ("takes minutes; tests/export/test_export_command.py runs it"),
    "mobilevd devices": "asks adb, which another test's phones may hold; tests/device_runner/devices/adb runs it",
    "mobilevd weights i3d --to nets": "downloads; tests/mobilevd/commands/test_weights.py has a server for it",
    "mobilevd evaluate --generated OURS --reference REAL --protocol videogpt --protocol google --weights nets": (
        "needs those weights; tests/eval/test_named_protocols.py runs them with random ones"
    ),
    "mobilevd run configs/mobilevd.yaml --dry-run hardware.gpu=a100-80gb hardware.gpus=8": (
        "needs SVD's configs; tests/training/plan counts with them"
    ),
    "mobilevd run configs/mobilevd.yaml base.model=/path/to/svd/unet base.codec=/path/to/svd data.videos=/path/to/videos": (
        "needs SVD; tests/training runs the recipe at small widths in two processes"
    ),
    "mobilevd build-runner --abi arm64-v8a --executorch ../executorch --ndk ~/Android/Sdk/ndk/28.0.13004108": (
        "needs an NDK; tests/device_runner/building has a stand-in"
    ),
    "mobilevd build-runner --abi arm64-v8a --glibc": "needs a cross compiler; tests/device_runner/building builds it",
}
"""Commands that are not run here, with the reason."""


def is_synopsis(command: str) -> bool:
    """True for a line of a list of commands, which shows what may be given: [options], A | B, more ..."""
    return any(mark in command for mark in ("[", "|", "...")) or bool(re.search(r"\b(STAGE|A\.json)\b", command))


def test_every_documented_command_is_run_or_says_why_not() -> None:
    real = {command for command in COMMANDS if not is_synopsis(command)}
    known = {*RUN, *NOT_RUN}
    assert real == known, f"new: {sorted(real - known)}; gone: {sorted(known - real)}"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_options_are_there(command: str) -> None:
    commands: Any = typer.main.get_command(app)
    for part in re.split(r"\s\|\s(?=mobilevd )", command):
        name = part.split()[1]
        there = {option for parameter in commands.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)\[?(--[a-z-]+)", part)) <= there, part


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run whose last model is of one step, videos, pictures and a codec."""
    folder = tmp_path_factory.mktemp("documented")
    torch.manual_seed(0)
    SpatioTemporalUNet(**small_config(num_attention_heads=2, cross_attention_dim=96)).save_pretrained(folder / "base")
    values = {
        "name": "RUN",
        "output": str(folder / "RUN"),
        "base": {"model": str(folder / "base"), "codec": str(SHIPPED / "assets/tiny/codec")},
        "data": {
            "num_frames": 4, "fps": 7, "height": 32, "width": 64, "clips_per_video": 1,
            "scenes": {"train": 3, "test": 3, "seconds": 1.5, "fps": 14},
        },
        "diffusion": {"num_steps": 2, "guidance_min": 1.0, "guidance_max": 1.0},
        "stages": [{"name": "small", "transforms": [{"kind": "cross_attention"}], "nfe": "one-step"}],
        "evaluation": {"clips": 2, "sheet_clips": 1},
        "export": {"stages": "last"},
        "bench": {"threads": 1, "warmup": 1, "iterations": 3},
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    result = CliRunner().invoke(app, ["run", str(folder / "run.yaml")])
    assert result.exit_code == 0, result.output
    shutil.copytree(folder / "RUN", folder / "OTHER_RUN")
    shutil.copytree(folder / "RUN" / "01-small" / "model", folder / "MODEL")
    shutil.copytree(SHIPPED / "assets/tiny/codec", folder / "CODEC")
    for number in range(3):
        clip = render_scene(number, 40, 64, 96, 14)
        write_video(folder / "REAL" / f"{number}.mp4", clip, 14)
        write_video(folder / "OURS" / f"{number}.mp4", np.roll(clip, 3, axis=2), 14)
        (folder / "PICTURES").mkdir(exist_ok=True)
        Image.fromarray(clip[0]).save(folder / "PICTURES" / f"{number}.png")
    shutil.copy(folder / "PICTURES" / "0.png", folder / "cat.png")
    return folder


@pytest.mark.parametrize("command", RUN)
def test_the_command_runs(place: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    words = shlex.split(RUN[command] or command)
    if words[1] == "compare":
        for number in (1, 2, 3):
            for side in ("old", "new"):
                if not Path(f"{side}{number}.json").exists():
                    bench = ["bench", "BUNDLE", "--protocol", "quick", "--json", f"{side}{number}.json"]
                    assert CliRunner().invoke(app, bench).exit_code == 0
    result = CliRunner().invoke(app, words[1:])
    # a comparison may find something slower, or too few samples; a machine may lack what doctor looks for
    allowed = {"compare": (0, 1, 3), "doctor": (0, 1)}.get(words[1], (0,))
    assert result.exit_code in allowed, result.output
    options = dict(zip(words, words[1:], strict=False))
    for option in ("--out", "--json", "--html", "--per-clip", "--reference-features"):
        if option in options:
            assert Path(options[option]).exists(), f"{option} {options[option]} was not written"
