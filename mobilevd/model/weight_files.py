"""The weights of a model folder: which files they are in, and their tensors, under the names that the model has.

Safetensors, or PyTorch's own files, which are only loaded as far as they hold tensors and numbers (`weights_only`).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobilevd.errors import UserError
from mobilevd.json_files import load_json

T = TypeVar("T")
WEIGHTS = "diffusion_pytorch_model"
STEMS = (WEIGHTS, "model", "pytorch_model")
"""Names without suffix: diffusers', accelerate's in its two formats."""
PREFIXES = ("module.", "_orig_mod.", "unet.")
"""What DistributedDataParallel, `torch.compile` and whole pipelines put before every name."""
WRAPPERS = ("state_dict", "module", "model")
"""Keys under which trainers put the tensors into their files."""
RELEASE_PREFIX = "model.diffusion_model."
"""Before the UNet's names in Stability's single files, which are of another code than diffusers'."""


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The files of a model folder's weights: one, or the shards that its index names; safetensors before `.bin`.

    Without a `variant` the plain files are taken, or those of the only variant there is (SVD's "fp16").

    Raises UserError for a folder without weights, shards that are missing or lie elsewhere.
    """
    infixes = [f".{variant}"] if variant else ["", ".fp16"]
    for suffix in ("safetensors", "bin"):
        for infix in infixes:
            for stem in STEMS:
                single = folder / f"{stem}{infix}.{suffix}"
                if single.is_file():
                    return [single]
                index = folder / f"{stem}.{suffix}.index{infix}.json"
                if index.is_file():
                    return _shards(folder, index)
    raise UserError(f"{folder}: no weights; {WEIGHTS}{infixes[0]}.safetensors (or its shards) was expected")


def _shards(folder: Path, index: Path) -> list[Path]:
    """The shards, as an index file lists them."""
    try:
        named: list[Any] = list(load_json(index)["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        named = []
    if not named or not all(isinstance(name, str) for name in named):
        told = what_instead(index) or "not an index of shards (a JSON object with a weight_map of tensors to files)"
        raise UserError(f"{index}: {told}")
    for name in sorted(set(named)):
        if Path(name).name != name:
            raise UserError(f"{index}: the shard {name!r} does not lie in the model folder")
        if not (folder / name).is_file():
            raise UserError(f"{index}: the shard {name} is missing from {folder}")
    return [folder / name for name in sorted(set(named))]


def read_tensors(files: list[Path]) -> dict[str, Tensor]:
    """All tensors of the files by the model's names, without what wrappers put before them.

    Raises UserError for a file that is damaged, no file of weights, or not safe to load; with the remedy.
    """
    found: dict[str, Tensor] = {}
    for file in files:
        found.update(_safetensors(file) if file.suffix == ".safetensors" else _pickled(file))
    found = _unwrapped(found)
    if any(name.startswith(RELEASE_PREFIX) for name in found):
        raise UserError(
            f"{files[0]}: the single-file release of Stable Video Diffusion, whose names are not diffusers'; take the "
            "folders of the same release (unet/, vae/, image_encoder/, feature_extractor/)"
        )
    return found


def shapes_in(files: list[Path]) -> dict[str, tuple[int, ...]] | None:
    """Shapes of all tensors by the model's names, from the headers alone; None if a file has none, as pickled ones.

    Raises UserError as `read_tensors`.
    """
    if any(file.suffix != ".safetensors" for file in files):
        return None
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                shapes |= {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: {what_instead(file) or f'not a complete safetensors file ({error})'}") from None
    if any(name.startswith(RELEASE_PREFIX) for name in shapes):
        return None  # told by `read_tensors`
    return _unwrapped(shapes)


def _unwrapped(found: dict[str, T]) -> dict[str, T]:
    """The entries by the model's names, without what wrappers put before them."""
    while prefix := next((p for p in PREFIXES if found and all(name.startswith(p) for name in found)), None):
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _safetensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 (not a dict)
                yield key, opened.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: {what_instead(file) or f'not a complete safetensors file ({error})'}") from None


def _pickled(file: Path) -> Mapping[str, Tensor]:
    if told := what_instead(file):
        raise UserError(f"{file}: {told}")
    try:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError) as error:
            if "mmap" not in str(error):
                raise
            content = torch.load(file, map_location="cpu", weights_only=True)  # the format before PyTorch 1.6
    except pickle.UnpicklingError:
        raise UserError(
            f"{file}: holds more than tensors and numbers, and could run code when it is loaded; save the tensors alone, "
            "best as safetensors"
        ) from None
    except (RuntimeError, ValueError, OSError, EOFError, KeyError, AttributeError, IndexError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{file}: not a complete file of PyTorch weights ({first_line})") from None
    while isinstance(content, Mapping) and not _are_tensors(content):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not _are_tensors(content):
        raise UserError(f"{file}: not a file of weights (tensors by name were expected)")
    return content


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def what_instead(file: Path) -> str | None:
    """What a file is that only has the name of weights; None if it may be some."""
    with open(file, "rb") as opened:
        start = opened.read(256)
    if not start:
        return "the file is empty; the download did not succeed"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS in place of the weights; run `git lfs pull` in that repository"
    if start.lstrip()[:1] == b"<":
        return "a web page in place of the weights; the download needs a login, or its address was wrong"
    return None
