"""Where the model lies in what a user names: a model folder itself, or a folder that people keep one in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilevd.errors import UserError
from mobilevd.json_files import load_json

PIPELINE = "model_index.json"
"""What diffusers writes into the folder of a whole pipeline."""
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")


def model_folder(place: Path | str) -> Path:
    """The folder with the UNet's `config.json` in `place`.

    That is `place` itself; `unet/` of a whole pipeline; `unet_ema/` or `unet/` of a training's checkpoint, if there is
    only one of the two; `model/` of a stage of a run.

    Raises UserError for a place without a model, with what would be right.
    """
    place = Path(place)
    if place.is_file():
        raise UserError(f"{place}: {_about_file(place)}")
    if not place.is_dir():
        raise UserError(f"{place}: no such model folder")
    inside = [name for name in ("unet", "unet_ema") if (place / name / "config.json").is_file()]
    if (place / PIPELINE).is_file() and "unet" in inside:
        return place / "unet"
    config = place / "config.json"
    if config.exists():
        if _is_run(config):
            raise UserError(f"{place}: a run's folder; give one of its models, {_models_of_run(place)}")
        return place
    if len(inside) == 2:
        raise UserError(
            f"{place}: holds unet/, as training left it, and unet_ema/, its average; give one of them "
            f"({place / 'unet_ema'} is the usual choice)"
        )
    if inside:
        return place / inside[0]
    if (place / "model" / "config.json").is_file():
        return place / "model"
    raise UserError(f"{place}: {_about_folder(place)}")


def _models_of_run(run: Path) -> str:
    made = sorted(config.parent for config in run.glob("[0-9][0-9]-*/model/config.json"))
    return f"such as the last, {made[-1]}" if made else f"as in {run / 'NN-stage' / 'model'}, once there is one"


def _is_run(config: Path) -> bool:
    content = _json(config)
    return isinstance(content, dict) and {"base", "stages", "data"} <= content.keys()


def _json(file: Path) -> Any:
    try:
        return load_json(file)
    except (OSError, ValueError):
        return None


def _about_file(file: Path) -> str:
    if file.name == "config.json" or (file.suffix in WEIGHT_SUFFIXES and (file.parent / "config.json").is_file()):
        return f"a file of a model folder; give the folder, {file.parent}"
    if file.suffix in WEIGHT_SUFFIXES:
        return (
            "weights in a single file, without a config.json. If it is the single-file release of Stable Video Diffusion, "
            "take the folders of the same release (unet/, vae/, image_encoder/, feature_extractor/), which diffusers reads"
        )
    return "a file; give the folder that holds the model's config.json"


def _about_folder(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    weights = [name for name in names if Path(name).suffix in WEIGHT_SUFFIXES]
    wanted = "a model folder holds config.json and diffusion_pytorch_model.safetensors"
    if any(name in names for name in ("optimizer.bin", "pytorch_model", "scheduler.bin")) and weights:
        return (
            f"a checkpoint of accelerate, whose weights ({weights[0]}) come without the model's config.json; put the one "
            "of the model that was trained beside them"
        )
    if weights:
        return f"no config.json beside {weights[0]}; {wanted}"
    if inner := [name for name in names if (folder / name / "config.json").is_file()]:
        return f"no config.json; {wanted}. Did you mean {folder / inner[-1]}?"
    return f"no config.json; {wanted}"
