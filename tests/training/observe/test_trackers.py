"""Trackers: TensorBoard's files read back, others by a stand-in, and failures that training outlives."""

import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mobilevd.errors import UserError
from tests.training.observe.reports import report, shown_clips
from training.observe import trackers as module
from training.observe.tracker_kinds import TRACKERS, TrackedStage
from training.observe.trackers import Trackers, check_trackers

SETTINGS = {"name": "mini", "data": {"fps": 7}, "stages": [{"name": "small"}, {"name": "last", "sizes": [1, 2]}]}


def opened(folder: Path, step: int = 0, names: tuple[str, ...] = ("tensorboard",)) -> tuple[Trackers, list[str]]:
    told: list[str] = []
    stage = TrackedStage("mobilevd", "mini", "last", folder / "tracking")
    return Trackers(names, stage, SETTINGS, step, told.append), told


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / "tracking" / "tensorboard" / "last"))
    accumulator.Reload()
    return accumulator


def scalars(accumulator: EventAccumulator, name: str) -> dict[int, Any]:
    return {event.step: pytest.approx(event.value) for event in accumulator.Scalars(name)}


def test_tensorboard_has_figures_rates_clips_and_the_configuration(tmp_path: Path) -> None:
    trackers, told = opened(tmp_path)
    trackers.logged(report(10, mfu=0.4))
    trackers.validated(10, {"distance": 41.0}, shown_clips(tmp_path))
    trackers.close()
    read = events(tmp_path)
    assert told == [] and scalars(read, "loss") == {10: 0.4123}
    assert scalars(read, "grad_norm/generator") == {10: 0.5} and scalars(read, "rate/mfu") == {10: 0.4}
    assert scalars(read, "validation/distance") == {10: 41.0}
    assert {"validation/sheet", "validation/gates", "validation/clips"} <= set(read.Tags()["images"])
    (image,) = read.Images("validation/clips")
    assert image.encoded_image_string.startswith(b"GIF89a") and (image.width, image.height) == (32, 16)
    (text,) = read.Tensors("configuration/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert "data.fps: 7" in shown and "stages.1.name: last" in shown and "stages.1.sizes: [1, 2]" in shown


def test_a_resumed_training_goes_on_in_the_same_place(tmp_path: Path) -> None:
    first, _ = opened(tmp_path)
    for step in (10, 20, 30):
        first.logged(report(step, figures={"loss": float(step)}))
    first.close()
    time.sleep(1.1)  # event files are read in the order of the seconds in their names
    again, told = opened(tmp_path, step=20)  # the last steps are lost, and taken again
    again.logged(report(40, figures={"loss": 0.25}))
    again.close()
    read = events(tmp_path)
    assert told == [] and scalars(read, "loss") == {10: 10.0, 20: 20.0, 40: 0.25}
    assert len(read.Tensors("configuration/text_summary")) == 1


def test_a_tracker_that_is_not_installed_is_told_before_training(tmp_path: Path) -> None:
    check_trackers(["tensorboard"])
    missing = next(name for name in TRACKERS if name != "tensorboard" and module.find_spec(name) is None)
    with pytest.raises(UserError, match=rf"{missing} is asked for and not installed; `pip install {missing}`"):
        check_trackers(["tensorboard", missing])
    with pytest.raises(UserError, match="no tracker 'clearml'; known are tensorboard, wandb"):
        check_trackers(["clearml"])
    with pytest.raises(UserError, match="not installed"):
        opened(tmp_path, names=(missing,))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A stand-in for wandb, whose network goes when `broken` is in what it was told."""
    told: list[Any] = []

    class Run:
        def log(self, values: dict[str, Any], step: int) -> None:
            if "broken" in told:
                raise ConnectionError("no route\nto host")
            told.append((step, values))

        def finish(self) -> None:
            told.append("finished")

    def init(**arguments: Any) -> Run:
        if "refused" in told:
            raise RuntimeError("not logged in")
        told.append(arguments)
        return Run()

    fake: Any = types.ModuleType("wandb")
    fake.init, fake.Image, fake.Video = (
        init,
        lambda file: Path(file).name,
        lambda file, format: (Path(file).name, format),
    )
    fake.config = types.SimpleNamespace(update=lambda values, allow_val_change: told.append(values))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    yield told


def test_another_tracker_gets_the_same_and_its_run_again(tmp_path: Path, wandb: list[Any]) -> None:
    trackers, _ = opened(tmp_path, names=("wandb",))
    trackers.logged(report(10))
    trackers.validated(10, {"distance": 41.0}, shown_clips(tmp_path))
    trackers.close()
    arguments, settings, (step, values), (_, validation), (_, pictures), end = wandb
    assert (arguments["project"], arguments["name"], arguments["group"]) == ("mobilevd", "mini/last", "mini")
    assert settings["data.fps"] == 7 and (step, values["loss"]) == (10, 0.4123) and end == "finished"
    assert validation == {"validation/distance": 41.0}
    assert pictures["validation/clips"] == ("step-000010.mp4", "mp4")
    wandb.clear()
    again, _ = opened(tmp_path, step=10, names=("wandb",))
    again.close()
    assert [each["id"] for each in wandb[:1]] == [arguments["id"]] and wandb[1:] == ["finished"]


def test_a_tracker_that_fails_costs_one_line_and_the_others_go_on(tmp_path: Path, wandb: list[Any]) -> None:
    trackers, told = opened(tmp_path, names=("wandb", "tensorboard"))
    trackers.logged(report(10))
    wandb.append("broken")
    trackers.logged(report(20))
    trackers.logged(report(30))
    trackers.close()
    assert told == ["tracker wandb failed and is left out from here on; training goes on: no route to host"]
    assert set(scalars(events(tmp_path), "loss")) == {10, 20, 30}


def test_a_tracker_that_does_not_start_costs_one_line(tmp_path: Path, wandb: list[Any]) -> None:
    wandb.append("refused")
    trackers, told = opened(tmp_path, names=("wandb",))
    trackers.logged(report(10))
    assert told == ["tracker wandb failed and is left out from here on; training goes on: not logged in"]
    assert not (tmp_path / "tracking" / "last.json").exists()  # it has not got the configuration


def test_a_large_clip_is_made_smaller(tmp_path: Path) -> None:
    from training.observe.tracker_kinds import ANIMATION_WIDTH, _gif

    data, width, height = _gif(np.zeros((3, 100, 4 * ANIMATION_WIDTH, 3), np.uint8), 7)
    assert (width, height) == (ANIMATION_WIDTH, 25) and data.startswith(b"GIF")
