"""Adding something is as short as CONTRIBUTING.md says: done here in a copy of the source, and the result is used.

A transform, an objective, a target (with a runner to measure it), a device and a figure, each by the files that the recipe
names and no others; then one run that is trained with the new ones, its table with the new figure, an export to the new
target, and a measurement of it on the new device.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mobilevd import SpatioTemporalUNet
from tests.mobilevd.unets import small_config
from tests.source import ROOMS, ROOT


@dataclass
class Recipe:
    """Files to make, and texts to put in the place of others in files that are there."""

    made: dict[str, str]
    changed: list[tuple[str, str, str]] = field(default_factory=list)

    def files(self) -> set[str]:
        return {*self.made, *(file for file, _, _ in self.changed)}

    def follow(self, source: Path) -> None:
        for file, text in self.made.items():
            assert not (source / file).exists()
            (source / file).write_text(text)
        for file, old, new in self.changed:
            text = (source / file).read_text()
            assert text.count(old) == 1, f"{file} does not have {old!r} once"
            (source / file).write_text(text.replace(old, new))


def entry(file: str, table: str, line: str, imported: str) -> list[tuple[str, str, str]]:
    """A line of a table, and what it needs imported."""
    future = "from __future__ import annotations\n"
    return [(file, future, f"{future}{imported}\n"), (file, table, f"{table}\n    {line}")]


RECIPES = {
    "transform": Recipe(
        {
            "mobilevd/transforms/louder.py": """
from mobilevd.config.transforms import LouderSettings
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.base import Transform, rebuild


class Louder(Transform[LouderSettings]):
    def finish(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        return rebuild(unet, {"conv_out.bias": unet.conv_out.bias.detach() + self.settings.by})
"""
        },
        [
            (
                "mobilevd/config/transforms.py",
                "AnyTransform = Annotated[\n",
                "class LouderSettings(TransformSettings):\n"
                '    kind: Literal["louder"] = "louder"\n    by: float = 1.0\n\n\n'
                "AnyTransform = Annotated[\n    LouderSettings |\n",
            ),
            *entry(
                "mobilevd/transforms/__init__.py",
                "TRANSFORMS: dict[type[TransformSettings], type[Transform[Any]]] = {",
                "LouderSettings: Louder,",
                "from mobilevd.config.transforms import LouderSettings\nfrom mobilevd.transforms.louder import Louder",
            ),
        ],
    ),
    "objective": Recipe(
        {
            "training/objectives/silence.py": """
from mobilevd.config.objectives import SilenceSettings
from training.objectives.base import Objective


class Silence(Objective):
    settings_class = SilenceSettings

    def __init__(self, settings, context):
        self.weight, self.sigma = settings.weight, context.diffusion.sigma_max

    def loss(self, phase, unet, batch, generator):
        out = unet(batch.latents.repeat(1, 1, 2, 1, 1), batch.latents.new_zeros(len(batch.latents)),
                   batch.conditions.image_embedding, batch.conditions.added_time_ids)
        loss = self.weight * out.square().mean()
        return loss, {"silence": float(loss.detach())}
"""
        },
        [
            (
                "mobilevd/config/objectives.py",
                "AnyObjective = Annotated[\n",
                'class SilenceSettings(ObjectiveSettings):\n    kind: Literal["silence"] = "silence"\n'
                "    weight: float = 1.0\n    one_step: ClassVar[bool] = True\n\n\n"
                "AnyObjective = Annotated[\n    SilenceSettings |\n",
            )
        ],
    ),
    "target": Recipe(
        {
            "export/targets/plain_onnx.py": """
from export.targets.onnx import Onnx


class PlainOnnx(Onnx):
    name, precisions, ladders = "plain-onnx", ("fp32",), ()
"""
        },
        entry(
            "export/targets/__init__.py",
            "for target in (",
            "    PlainOnnx(),",
            "from export.targets.plain_onnx import PlainOnnx",
        ),
    ),
    "runner": Recipe(
        {
            "device_runner/runners/plain_onnx.py": """
from device_runner.runners.ort import onnxruntime_host


def plain_onnx(path, device):
    runner = onnxruntime_host()
    runner.name, runner.targets = "plain", frozenset({"plain-onnx"})
    return runner
"""
        },
        [
            *entry(
                "device_runner/runners/choose.py",
                "RUNNERS: dict[str, Make] = {",
                '"plain": plain_onnx,',
                "from device_runner.runners.plain_onnx import plain_onnx",
            ),
            ("device_runner/runners/choose.py", "DEFAULTS = {", 'DEFAULTS = {\n    "plain-onnx": "plain",'),
        ],
    ),
    "device": Recipe(
        {
            "device_runner/devices/desk.py": """
from device_runner.devices.host import HostDevice


class DeskDevice(HostDevice):
    name = "desk"

    def describe(self):
        return {**super().describe(), "model": "a desk"}
"""
        },
        entry(
            "device_runner/devices/kinds.py",
            "DEVICES: dict[str, DeviceKind] = {",
            '"desk": DeskDevice,',
            "from device_runner.devices.desk import DeskDevice",
        ),
    ),
    "figure": Recipe(
        {
            "eval/brightness.py": """
def brightness(clip):
    return float(clip.mean() / 255)
"""
        },
        entry(
            "eval/figures.py",
            "FIGURES: list[Figure] = [",
            'Figure("brightness", "bright", lambda v: f"{v:.3f}", brightness),',
            "from eval.brightness import brightness",
        ),
    ),
}
FILES = {"transform": 3, "objective": 2, "target": 2, "runner": 2, "device": 2, "figure": 2}

# All commands in one process, so that torch is imported once.
COMMANDS = """
import json, sys
from typer.testing import CliRunner
from mobilevd.cli import app
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    print(result.output)
    if result.exit_code:
        print(result.stderr, file=sys.stderr)
        sys.exit(result.exit_code)
"""


def write_configuration(folder: Path) -> Path:
    torch.manual_seed(0)
    SpatioTemporalUNet(**small_config(num_attention_heads=2, cross_attention_dim=96)).save_pretrained(folder / "base")
    values = {
        "name": "recipes",
        "output": str(folder / "run"),
        "base": {"model": str(folder / "base"), "codec": str(ROOT / "assets" / "tiny" / "codec")},
        "data": {
            "num_frames": 4, "fps": 8, "height": 16, "width": 32, "clips_per_video": 1,
            "scenes": {"train": 2, "test": 3, "seconds": 1.0, "fps": 8},
        },
        "diffusion": {"num_steps": 1},
        "training": {"steps": 2, "batch_size": 2, "log_every": 1, "num_threads": 1, "learning_rate": 1e-2},
        "stages": [
            {"name": "louder", "transforms": [{"kind": "louder", "by": 3.0}]},
            {"name": "silence", "objective": {"kind": "silence", "weight": 2.0}},
        ],
        "evaluation": {"clips": 2},
        "export": {"stages": "none"},
    }  # fmt: skip
    file = folder / "recipes.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run with all five, and what the commands printed."""
    folder = tmp_path_factory.mktemp("recipes")
    source = folder / "source"
    for room in (*ROOMS, "configs"):
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "assets").symlink_to(ROOT / "assets")
    for recipe in RECIPES.values():
        recipe.follow(source)
    model, bundle = folder / "run" / "02-silence" / "model", folder / "bundle"
    commands: list[list[Any]] = [
        ["run", write_configuration(folder)],
        ["report", folder / "run"],
        ["export", model, "--out", bundle, "--target", "plain-onnx", "--unet-only"],
        ["bench", bundle, "--device", "desk", "--protocol", "quick", "--threads", "1", "--json", folder / "bench.json"],
    ]
    result = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands, default=str)],
        env={**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200"},
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return folder, result.stdout


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_touches_no_more_files_than_it_says(kind: str) -> None:
    recipe = RECIPES[kind]
    assert len(recipe.files()) <= FILES[kind]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for file in recipe.files() - recipe.made.keys():
        assert (
            f"`{file.removeprefix('device_runner/') if kind == 'device' else file}`" in text or f"`{file}`" in text
        ), file
    for file in recipe.made:
        assert f"`{Path(file).parent}/`" in text, file


def test_a_transform_changes_the_model_of_its_stage(used: tuple[Path, str]) -> None:
    folder, _ = used
    name = "diffusion_pytorch_model.safetensors"
    before, after = load_file(folder / "base" / name), load_file(folder / "run" / "01-louder" / "model" / name)
    assert torch.equal(after.pop("conv_out.bias"), before.pop("conv_out.bias") + 3)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_an_objective_trains_its_stage(used: tuple[Path, str]) -> None:
    folder, text = used
    name = "diffusion_pytorch_model.safetensors"
    before, after = (load_file(folder / "run" / stage / "model" / name) for stage in ("01-louder", "02-silence"))
    assert not torch.equal(before["conv_out.bias"], after["conv_out.bias"])
    assert float(after["conv_out.bias"].abs().sum()) < float(before["conv_out.bias"].abs().sum())
    assert re.search(r"training silence: .*silence \d+\.\d+", text)
    rows = json.loads((folder / "run" / "results.json").read_text())["rows"]
    assert rows[-1]["nfe"] == 1  # its settings say that it makes one-step models


def test_a_figure_is_in_the_table(used: tuple[Path, str]) -> None:
    folder, text = used
    rows = json.loads((folder / "run" / "results.json").read_text())["rows"]
    assert all(0 <= row["brightness"] <= 1 for row in rows)
    assert "bright" in text and f"{rows[-1]['brightness']:.3f}" in (folder / "run" / "report.md").read_text()


def test_a_target_and_its_runner_and_a_device(used: tuple[Path, str]) -> None:
    folder, _ = used
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text())
    assert manifest["target"] == "plain-onnx" and manifest["programs"]["unet"]["parity"]["executed_here"]
    (measurement,) = json.loads((folder / "bench.json").read_text())["measurements"]
    assert measurement["device"]["name"] == "desk" and measurement["device"]["model"] == "a desk"
    assert len(measurement["samples_ms"]) == 20 and measurement["runner"]["name"] == "plain"
