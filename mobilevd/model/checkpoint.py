"""Model folders: `config.json` and safetensors, ours and diffusers' SVD ones, read strictly and written atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors.torch import save_file
from torch import nn

from mobilevd.errors import UserError
from mobilevd.files import atomic_folder, atomic_write_json
from mobilevd.json_files import read_json
from mobilevd.model.config_values import check_values
from mobilevd.model.model_place import model_folder
from mobilevd.model.sampling_record import FILE as SAMPLING_RECORD
from mobilevd.model.sampling_record import SamplingRecord, write_record
from mobilevd.model.weight_files import WEIGHTS, read_tensors, shapes_in, weight_files
from mobilevd.places import is_json_with, only_with_config

SVD_CLASS = "UNetSpatioTemporalConditionModel"
_WEIGHT_FILES = (f"{WEIGHTS}*.safetensors", f"{WEIGHTS}*.index.json")
MODEL_FILES = only_with_config(
    is_json_with("temporal_scale"), "config.json", SAMPLING_RECORD, "training.json", *_WEIGHT_FILES
)
"""What is no model's of this package, in a folder to write one to."""
AVERAGING_KEYS = frozenset(
    {"decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma", "power"}
)
"""What diffusers' EMAModel adds to the config of a model that it saves."""
OUR_KEYS = {
    "cross_attention": "full",
    "temporal_scale": 1,
    "spatial_scale": 1,
    "scale_operator": "average",
    "temporal_blocks": None,
    "inner_widths": None,
    "live_funnels": False,
    "temporal_gates": False,
}

Model = TypeVar("Model", bound=nn.Module)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json in a model folder (`model_folder`), without what averaging put there.

    Raises UserError if it is missing or not a JSON object.
    """
    path = model_folder(folder) / "config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise UserError(f"{path}: not a model config (a JSON object was expected)")
    return {key: value for key, value in config.items() if key not in AVERAGING_KEYS}


def load_strict(model: nn.Module, files: list[Path], where: Path) -> None:
    """Copy tensors from files of weights into `model`; names and shapes must agree exactly.

    A 3x1x1 convolution weight (rank 5) fits our (3, 1) one (rank 4): its last axis is dropped.

    Raises:
        UserError: the first mismatching tensor (in the model's order), with both shapes.
    """
    state, found = model.state_dict(), read_tensors(files)
    check_shapes(model, {name: tuple(tensor.shape) for name, tensor in found.items()}, where)
    with torch.no_grad():
        for name, wanted in state.items():
            wanted.copy_(found[name].reshape(wanted.shape))


def check_shapes(model: nn.Module, found: Mapping[str, tuple[int, ...]], where: Path) -> None:
    """Raise UserError, as `load_strict`, unless tensors of these names and shapes are those of `model`."""
    state = model.state_dict()
    for name, wanted in state.items():
        if name not in found:
            raise UserError(
                f"{where}: a checkpoint of another architecture: {name} of shape {tuple(wanted.shape)} is missing"
            )
        shape = found[name]
        if shape != tuple(wanted.shape) and not (len(shape) == 5 and wanted.ndim == 4 and shape == (*wanted.shape, 1)):
            raise UserError(
                f"{where}: a checkpoint of another architecture: {name} has shape {shape}, "
                f"its config says {tuple(wanted.shape)}"
            )
    if extra := next((name for name in found if name not in state), None):
        raise UserError(
            f"{where}: a checkpoint of another architecture: {extra} of shape {found[extra]} has no place in this model"
        )


def build_model(cls: type[Model], folder: Path) -> Model:
    """The model that `folder`'s config describes, with random weights (none at all under `torch.device("meta")`).

    Raises UserError for a missing folder or config, a config of another class, unknown config keys.
    """
    folder = model_folder(folder)
    config = read_config(folder)
    class_name = config.get("_class_name", cls.__name__)
    if class_name not in (cls.__name__, SVD_CLASS):
        raise UserError(
            f"{folder / 'config.json'}: a model of class {class_name}; "
            f"{cls.__name__} or diffusers' {SVD_CLASS} was expected"
        )
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    try:
        check_values(arguments)
        return cls(**arguments)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {str(error).removeprefix('config: ')}") from None
    except (TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder / 'config.json'}: no UNet can be built from it ({first_line})") from None


def load_model_folder(
    cls: type[Model], folder: Path, variant: str | None = None, torch_dtype: torch.dtype | None = None
) -> Model:
    """Build the model that `folder` describes and load its weights strictly; in float32 unless `torch_dtype` is given.

    Raises UserError for a missing folder or file, a config of another class, unknown config keys, tensors that differ.
    """
    folder = model_folder(folder)
    files = weight_files(folder, variant)
    if (shapes := shapes_in(files)) is not None:  # told before anything is allocated, whatever the config says
        with torch.device("meta"):
            check_shapes(build_model(cls, folder), shapes, folder)
    model = build_model(cls, folder)
    load_strict(model, files, folder)
    if torch_dtype is not None:
        nn.Module.to(model, torch_dtype)  # in place; diffusers' own `to` warns about every change of dtype
    return model.eval()


def save_svd_folder(model: nn.Module, folder: Path) -> None:
    """Write `model` as diffusers' `UNetSpatioTemporalConditionModel` folder (temporal kernels are 3x1x1 again).

    Raises UserError if the model is compressed, since diffusers' class cannot express that.
    """
    config = {key: value for key, value in dict(cast(Any, model).config).items() if not key.startswith("_")}
    for key, plain in OUR_KEYS.items():
        value = config.pop(key, plain)
        same = value == plain or (key == "inner_widths" and not value)
        if key != "scale_operator" and not same:  # without a scale the operator does nothing
            raise UserError(
                f"{folder}: a compressed model ({key} = {value!r}) cannot be written as diffusers' {SVD_CLASS}"
            )
    tensors = {}
    for name, tensor in model.state_dict().items():
        temporal_kernel = ".temporal_res_block.conv" in name and name.endswith("weight")
        tensors[name] = (tensor.unsqueeze(-1) if temporal_kernel else tensor).contiguous()
    with atomic_folder(folder, only_with_config(_is_svd_of_ours, "config.json", *_WEIGHT_FILES)) as temporary:
        save_file(tensors, temporary / f"{WEIGHTS}.safetensors", metadata={"format": "pt"})
        atomic_write_json(temporary / "config.json", {"_class_name": SVD_CLASS, **config})


def _is_svd_of_ours(file: Path) -> bool:
    """True for the config of `save_svd_folder`; those that diffusers writes name its version."""
    return is_json_with("_class_name")(file) and not is_json_with("_diffusers_version")(file)


def save_model_folder(model: nn.Module, folder: Path, record: SamplingRecord | None = None) -> None:
    """Run `model.save_pretrained(folder)`, with a record, so that the folder appears whole or not at all."""
    with atomic_folder(folder, MODEL_FILES) as temporary:
        model.save_pretrained(temporary)  # type: ignore[operator]
        if record is not None:
            write_record(temporary, record)
