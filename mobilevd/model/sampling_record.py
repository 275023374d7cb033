"""The record in a model's folder of how the model is sampled: `sampling.json`, beside `config.json` and the weights.

The architecture and the weights do not tell at which noise level a one-step model was trained, nor for which frame rate,
and a wrong guess gives a picture of noise. So the folder carries it, wherever it is copied to.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.json_files import load_json

FILE = "sampling.json"


@dataclass(frozen=True, kw_only=True)
class SamplingRecord:
    """How a model was trained to be sampled.

    Attributes:
        one_step: by one evaluation at `sigma_max`, else by `num_steps` Euler steps with guidance.
        sigma_min, sigma_max, rho: the Karras grid of noise levels.
        guidance_min, guidance_max: guidance scale of the first and the last frame.
        fps, motion_bucket_id, noise_aug_strength: the micro-conditioning.
        num_frames, height, width: size of its clips, in pixels.
        codec: the codec's folder, when the model was trained; None if it is not known.
    """

    one_step: bool
    num_steps: int
    sigma_min: float
    sigma_max: float
    rho: float
    guidance_min: float
    guidance_max: float
    fps: float
    motion_bucket_id: float
    noise_aug_strength: float
    num_frames: int
    height: int
    width: int
    codec: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))


_MAY_BE_ZERO = ("guidance_min", "guidance_max", "motion_bucket_id", "noise_aug_strength")
_WHOLE = ("num_steps", "num_frames", "height", "width")


def _check(name: str, value: Any) -> None:
    """Raise ValueError for a value that the field cannot have."""
    if name == "one_step":
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, not {value!r}")
    elif name == "codec":
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} must be the path of a folder or null, not {value!r}")
    elif isinstance(value, bool) or not isinstance(value, int if name in _WHOLE else int | float):
        raise ValueError(f"{name} must be a {'whole ' if name in _WHOLE else ''}number, not {value!r}")
    elif not (math.isfinite(value) and (value > 0 or (value == 0 and name in _MAY_BE_ZERO))):
        raise ValueError(f"{name} must be {'0 or more' if name in _MAY_BE_ZERO else 'above 0'}, not {value!r}")


def write_record(folder: Path, record: SamplingRecord) -> None:
    """Write the record into a model folder."""
    atomic_write_json(folder / FILE, asdict(record))


def read_record(folder: Path) -> SamplingRecord | None:
    """Read a model folder's record; None if it has none. Raises UserError, naming the key, for one that is not right."""
    path = folder / FILE
    try:
        content = load_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); it says how the model is sampled") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object was expected; it says how the model is sampled")
    known = {field.name for field in fields(SamplingRecord)}
    if unknown := sorted(set(content) - known):
        raise UserError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    if missing := sorted(known - set(content) - {"codec"}):
        raise UserError(f"{path}: the key {missing[0]!r} is missing")
    try:
        return SamplingRecord(**content)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
