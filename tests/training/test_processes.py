"""Several processes train one model: their weights stay the same, and one run's files are written once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mobilevd.model.unet import SpatioTemporalUNet
from tests.mobilevd.unets import small_config

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
from pathlib import Path
import torch
from accelerate import PartialState
from safetensors.torch import save_file
from mobilevd.config.transforms import TemporalPruningSettings
from mobilevd.transforms.temporal_pruning import TemporalPruning
from tests.training.helpers import train_settings, adversarial, small_unet, source
from training.loop import Trainer
torch.set_num_threads(1)
state, folder = PartialState(cpu=True), Path(sys.argv[1])
unet = small_unet()
objective = adversarial(unet, discriminator_steps_first=0)
pruning = TemporalPruning(TemporalPruningSettings(keep=2, learning_rate=0.1))
settings = train_settings(steps=3, checkpoint_every=2, ema_decay=0.0)
trainer = Trainer(pruning.begin(unet), objective, [pruning], source(), settings, folder, seed=3)
trained = trainer.run()
tensors = {**trained.state_dict(), **{f"heads.{k}": v for k, v in objective.heads.state_dict().items()}}
save_file(tensors, folder / f"rank{state.process_index}.safetensors")
"""


def launch(count: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run in `count` processes on the CPU, as `accelerate launch` runs them on several GPUs: with torch's launcher."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200
    )


def test_two_processes_end_with_the_same_weights_that_neither_had_alone(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    together, alone = tmp_path / "together", tmp_path / "alone"
    for folder, count in ((together, 2), (alone, 1)):
        folder.mkdir()
        done = launch(count, str(script), str(folder))
        assert done.returncode == 0, done.stderr[-3000:]
    first, second = (load_file(together / f"rank{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    single = load_file(alone / "rank0.safetensors")
    for part in ("temporal_importance", "conv_in.weight", "heads.spatial.0.logit.weight"):
        assert not torch.equal(single[part], first[part]), part  # the other process's clips had their say


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    unet = SpatioTemporalUNet(**small_config(num_attention_heads=2, cross_attention_dim=96))
    unet.save_pretrained(tmp_path / "base")
    values = {
        "name": "mini",
        "output": str(tmp_path / "run"),
        "base": {"model": str(tmp_path / "base"), "codec": str(ROOT / "assets" / "tiny" / "codec")},
        "data": {
            "num_frames": 4, "fps": 8, "height": 16, "width": 32, "clips_per_video": 1,
            "scenes": {"train": 3, "test": 3, "seconds": 1.0, "fps": 8, "seed": 77},
        },
        "diffusion": {"num_steps": 2},
        "training": {"steps": 2, "batch_size": 2, "checkpoint_every": 1, "num_threads": 1},
        "stages": [
            {"name": "projection", "transforms": [{"kind": "cross_attention"}]},
            {
                "name": "adversarial",
                "objective": {"kind": "adversarial", "discriminator_steps_first": 1},
                "transforms": [{"kind": "temporal_pruning", "keep": 3}],
            },
        ],
        "evaluation": {"clips": 2, "sheet_clips": 2},
        "export": {"stages": "none"},
    }  # fmt: skip
    file = tmp_path / "mini.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_a_whole_run_under_the_launcher_speaks_and_writes_once(run_file: Path) -> None:
    done = launch(2, "-m", "mobilevd", "run", str(run_file))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("3 clips from 3 videos") == 2  # the training's and the held-out ones, told by one process
    assert done.stdout.count("done in") == 1
    results = json.loads((run_file.parent / "run" / "results.json").read_text())
    assert [row["stage"] for row in results["rows"]] == ["base", "base-one-step", "projection", "adversarial"]
    again = launch(2, "-m", "mobilevd", "run", str(run_file))
    assert again.returncode == 0 and again.stdout.count("done already") == 1
