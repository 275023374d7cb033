"""Several processes train one model: their weights stay the same, and one run's files are written once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mobilevd.config.transforms import TemporalPruningSettings
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.temporal_pruning import TemporalPruning
from tests.launch import launch_script
from tests.mobilevd.unets import small_config
from tests.source import ROOT
from tests.training.helpers import adversarial, small_unet, source, train_settings
from training.loop import Trainer

AGAIN, ANEW = "--- the same command again ---", "--- from a stage on ---"
# Everything in one launch, since a process takes longer to import what it needs than to train.
SCRIPT = f"""
import runpy, sys
from pathlib import Path
from accelerate import PartialState
from tests.training.test_processes import train
folder = Path(sys.argv[2])
config = sys.argv[1]
for options, word in (([], "{AGAIN}"), ([], "{ANEW}"), (["--from", "adversarial"], "--- training ---")):
    sys.argv = ["mobilevd", "run", config, *options]
    try:
        runpy.run_module("mobilevd", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    state = PartialState()
    state.wait_for_everyone()
    if state.is_main_process:
        print(word, flush=True)
    state.wait_for_everyone()
train(folder, state.process_index)
"""


def train(folder: Path, rank: int) -> None:
    """Train the same stage in every process; each writes the weights that it ended with."""
    unet = small_unet()
    objective = adversarial(unet, discriminator_steps_first=0)
    pruning = TemporalPruning(TemporalPruningSettings(keep=2, learning_rate=0.1))
    settings: Any = train_settings(steps=3, checkpoint_every=2, ema_decay=0.0)
    trained = Trainer(pruning.begin(unet), objective, [pruning], source(), settings, folder, seed=3).run()
    heads = {f"heads.{name}": tensor for name, tensor in objective.heads.state_dict().items()}
    save_file({**trained.state_dict(), **heads}, folder / f"rank{rank}.safetensors")


@pytest.fixture(scope="module")
def launched(run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run, the same again and a training by two processes: the folder of the training, and what all of it said.

    On the CPU, as `accelerate launch` runs them on several GPUs: with torch's launcher.
    """
    folder = tmp_path_factory.mktemp("together")
    return folder, launch_script(folder, SCRIPT, run_file, folder)


def test_two_processes_end_with_the_same_weights_that_neither_had_alone(
    launched: tuple[Path, str], tmp_path: Path
) -> None:
    train(tmp_path, 0)
    first, second = (load_file(launched[0] / f"rank{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    single = load_file(tmp_path / "rank0.safetensors")
    for part in ("temporal_importance", "conv_in.weight", "heads.spatial.0.logit.weight"):
        assert not torch.equal(single[part], first[part]), part  # the other process's clips had their say


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    unet = SpatioTemporalUNet(**small_config(num_attention_heads=2, cross_attention_dim=96))
    unet.save_pretrained(tmp_path / "base")
    values = {
        "name": "mini",
        "output": str(tmp_path / "run"),
        "base": {"model": str(tmp_path / "base"), "codec": str(ROOT / "assets" / "tiny" / "codec")},
        "data": {
            "num_frames": 4, "fps": 8, "height": 16, "width": 32, "clips_per_video": 1, "workers": 0,
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


def test_a_whole_run_under_the_launcher_speaks_and_writes_once(launched: tuple[Path, str], run_file: Path) -> None:
    first, _, again = launched[1].partition(ANEW)[0].partition(AGAIN)
    assert first.count("3 clips from 3 videos") == 2  # the training's and the held-out ones, told by one process
    assert first.count("done in") == 1
    results = json.loads((run_file.parent / "run" / "results.json").read_text())
    assert [row["stage"] for row in results["rows"]] == ["base", "base-one-step", "projection", "adversarial"]
    assert again.count("done already") == 1


def test_two_processes_make_a_stage_anew(launched: tuple[Path, str], run_file: Path) -> None:
    anew = launched[1].partition(ANEW)[2]
    assert anew.count("training adversarial") == anew.count("generating and judging") == anew.count("done in") == 1
    output = run_file.parent / "run"
    assert not (output / "anew.json").exists() and (output / "results.json").is_file()
    assert not [path.name for path in output.iterdir() if path.name.startswith(".tmp")]
