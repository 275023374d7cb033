"""What is told of a run at once, before imports that take seconds: inputs that are not there, a device that is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from device_runner.devices.kinds import open_device
from device_runner.errors import RunnerError
from mobilevd.config.data import is_local, local_path
from mobilevd.config.schema import RunConfig
from mobilevd.errors import UserError
from mobilevd.model.model_place import model_folder


def quick_problems(config: RunConfig, for_training: bool = False) -> list[str]:
    """A line for each thing that a run would stumble over; none if there is none.

    Args:
        for_training: leaves out what only measuring needs.
    """
    found = [f"base.model: {problem}" for problem in _problem(lambda: model_folder(config.base.model))]
    found += [f"{key}: {place} does not exist{told}" for key, place, told in _places(config) if not place.exists()]
    if not for_training:
        found += [f"bench.device: {problem}" for problem in _problem(lambda: open_device(config.bench.device))]
    return found


def check_quickly(config: RunConfig, for_training: bool = False) -> None:
    """Raise UserError with a line for each of `quick_problems`."""
    if problems := quick_problems(config, for_training):
        raise UserError("\n".join(problems))


def _places(config: RunConfig) -> Iterator[tuple[str, Path, str]]:
    """Key, place and a hint for everything that the configuration names and that must be there, but the model."""
    data = config.data
    yield "base.codec", config.base.codec, "; give the folder that holds vae/ and image_encoder/, or a tiny codec's"
    for key, place in (("data.videos", data.videos), ("data.reference_videos", data.reference_videos)):
        if place is not None and is_local(place) and "{" not in place:
            yield key, local_path(place), "; give a folder of videos, a manifest or tar shards"
    for key, file in (("data.train_list", data.train_list), ("data.test_list", data.test_list)):
        if file is not None:
            yield key, file, "; give the file that lists its videos"
    kind, _, place = config.evaluation.features.partition(":")
    if place:
        hint = "; `mobilevd weights` says where it is to be had" if kind != "motion" else ""
        yield "evaluation.features", Path(place).expanduser(), hint


def _problem(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except (UserError, RunnerError) as error:
        return [str(error)]
    return []
