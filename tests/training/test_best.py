"""Validations of a training: on averaged weights, at the steps asked for, and the best of them kept."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mobilevd.model.unet import SpatioTemporalUNet
from tests.training.helpers import denoise, small_unet, source, train_settings
from training.loop import Trainer
from training.observe.report import Validation

DISTANCES = {2: 5.0, 4: 3.0, 6: float("nan"), 8: 4.0}


class Validator:
    """Tells given distances, and keeps the weights that it was shown."""

    def __init__(self) -> None:
        self.seen: dict[int, dict[str, torch.Tensor]] = {}

    def __call__(self, step: int, unet: SpatioTemporalUNet) -> Validation:
        assert not unet.training and not torch.is_grad_enabled()
        self.seen[step] = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
        return Validation({"distance": DISTANCES[step]})


def made(folder: Path, validator: Validator, **changes: Any) -> Trainer:
    settings = train_settings(steps=8, checkpoint_every=3, keep_checkpoints=1, validate_every=2, log_every=1, **changes)
    return Trainer(small_unet(), denoise(), (), source(), settings, folder, seed=3, validate=validator)


@pytest.mark.parametrize("result", ["last", "best"])
def test_the_best_is_kept_and_taken_if_asked_for(tmp_path: Path, result: str) -> None:
    validator = Validator()
    training = made(tmp_path, validator, result=result)
    trained = training.run().state_dict()
    assert sorted(validator.seen) == [2, 4, 6, 8]
    assert (training.progress.best_step, training.progress.best_distance) == (4, 3.0)
    kept = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert kept == ["step-00000004", "step-00000006"], "the last, and the best beside it"
    wanted = validator.seen[8 if result == "last" else 4]
    assert all(torch.equal(trained[name], wanted[name]) for name in wanted)
    assert bool(training.notices) is (result == "best")


def test_a_validation_changes_nothing_of_the_training(tmp_path: Path) -> None:
    watched = made(tmp_path / "watched", Validator()).run()
    settings = train_settings(steps=8, checkpoint_every=3, keep_checkpoints=1)
    alone = Trainer(small_unet(), denoise(), (), source(), settings, tmp_path / "alone", seed=3).run()
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)
