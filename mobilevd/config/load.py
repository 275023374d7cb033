"""Loading: from a YAML file and overrides to a checked configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from mobilevd.config.data import is_local, local_path
from mobilevd.config.problems import describe, nearest
from mobilevd.config.schema import RunConfig, StageSettings
from mobilevd.config.source import ConfigSource
from mobilevd.errors import UserError
from mobilevd.shipped import SHIPPED


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, set the `key=value` overrides, check all of it and find the files it names.

    Paths of the inputs (`base`, `data.videos`, `data.reference_videos`, `evaluation.features`) are looked up
    from the current folder first, then from the folder that holds `configs/`, then among the files that come with the
    package; `output` is always from the current folder.

    Raises UserError with a line for each problem.
    """
    path = Path(path)
    source = ConfigSource(path, list(overrides))
    try:
        config = RunConfig.model_validate(source.values)
    except ValidationError as error:
        raise UserError("\n".join(describe(error.errors(include_url=False), RunConfig, source))) from None
    _refuse_idle_overrides(source, config)
    roots = input_roots(path)
    config.output = config.output.expanduser()
    config.base.model = find_input(config.base.model, roots)
    config.base.codec = find_input(config.base.codec, roots)
    for key in ("videos", "reference_videos"):
        place = getattr(config.data, key)
        if place is not None and is_local(place):
            setattr(config.data, key, str(find_input(local_path(place), roots)))
    for key in ("train_list", "test_list"):
        if (file := getattr(config.data, key)) is not None:
            setattr(config.data, key, find_input(file, roots))
    kind, _, place = config.evaluation.features.partition(":")
    if place:
        config.evaluation.features = f"{kind}:{find_input(Path(place), roots)}"
    return config


def _refuse_idle_overrides(source: ConfigSource, config: RunConfig) -> None:
    """Raise UserError for an override of `training.KEY` that every stage which trains sets for itself."""
    trained = [(i, stage.name) for i, stage in enumerate(config.stages) if stage.objective.trains]
    for key, override in source.overrides:
        if len(key) < 2 or key[0] != "training" or not trained:
            continue
        own = [name for i, name in trained if key[1] in (source.values["stages"][i].get("training") or {})]
        if len(own) == len(trained):
            value = override.partition("=")[2]
            raise UserError(
                f"override {override}: no stage uses it, as every stage that trains sets its own {key[1]}; override those, "
                f"such as stages.{own[0]}.training.{'.'.join(map(str, key[1:]))}={value}"
            )


def input_roots(config_file: Path) -> list[Path]:
    """Folders that a configuration's inputs may be named from, beside the current one: the nearest above the file that
    holds `configs/`, and that of the files which come with the package."""
    above = [folder for folder in config_file.resolve().parents if (folder / "configs").is_dir()]
    return [*above[:1], SHIPPED]


def find_input(path: Path, roots: Sequence[Path]) -> Path:
    """`path` if it exists from the current folder, else under the first of the roots where it does, else unchanged."""
    path = path.expanduser()
    places = [path, *(root / path for root in roots)]
    return next((place for place in places if place.exists()), path)


def find_stage(config: RunConfig, name: str) -> StageSettings:
    """Return the stage of that name; UserError lists the known ones."""
    for stage in config.stages:
        if stage.name == name:
            return stage
    raise UserError(f"no stage{nearest(name, [stage.name for stage in config.stages])}")


def check_divisible(height: int, width: int, multiple: int, where: str = "data") -> None:
    """Raise UserError unless height and width, in pixels, are multiples of `multiple`.

    The multiple is the codec's factor times 2 for every halving in the UNet. `where` is the key that holds
    the size.
    """
    problems = []
    for name, size in (("height", height), ("width", width)):
        if size % multiple:
            below = size // multiple * multiple
            sizes = f"{below} or {below + multiple}" if below else f"{multiple}"
            problems.append(f"{where}.{name}: {size} is not divisible by {multiple}; nearest valid: {sizes}")
    if problems:
        raise UserError("\n".join(problems))


def check_frames(num_frames: int, factor: int, where: str) -> None:
    """Raise UserError unless `data.num_frames` is a multiple of the temporal factor; `where` tells whose it is."""
    if num_frames % factor:
        below = num_frames // factor * factor
        nearest = f"{below} or {below + factor}" if below else f"{factor}"
        raise UserError(
            f"data.num_frames: {num_frames} is not divisible by {factor}, the temporal scale {where}; "
            f"nearest valid: {nearest}"
        )
