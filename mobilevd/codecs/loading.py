"""The loader of codecs, which picks the class by what lies in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilevd.codecs.base import Codec
from mobilevd.codecs.tiny import CONFIG_NAME, WEIGHTS_NAME, TinyCodec
from mobilevd.errors import UserError
from mobilevd.json_files import load_json

SVD_FOLDERS = ("vae", "image_encoder", "feature_extractor")


def load_codec(folder: Path | str) -> Codec:
    """Return the codec in `folder`, frozen and in evaluation mode; its class follows from what lies there.

    A diffusers SVD folder (`vae/`, `image_encoder/`, `feature_extractor/`) gives `SVDCodec`, a folder of this project
    (`config.json` with "codec": "tiny", `model.safetensors`) gives `TinyCodec`. UserError for anything else.
    """
    folder = Path(folder)
    if all((folder / part).is_dir() for part in SVD_FOLDERS):
        from mobilevd.codecs.svd import (
            SVDCodec,
        )  # only where CLIP is used: transformers takes a second to import

        return SVDCodec.from_pretrained(folder)
    if _codec_name(folder / CONFIG_NAME) == TinyCodec.name:
        return TinyCodec.from_pretrained(folder)
    state = "is not a codec folder" if folder.is_dir() else "is not a folder" if folder.exists() else "does not exist"
    raise UserError(
        f"{folder} {state}: looked for a Stable Video Diffusion folder with {'/, '.join(SVD_FOLDERS)}/, "
        f'or a tiny codec with {WEIGHTS_NAME} and a {CONFIG_NAME} that says "codec": "tiny"'
    )


def spatial_factor_of(folder: Path | str) -> int:
    """Pixels per latent of the codec in `folder`, from its config alone. UserError for anything else than a codec."""
    folder = Path(folder)
    levels: Any = None
    if all((folder / part).is_dir() for part in SVD_FOLDERS):
        levels = _read(folder / "vae" / CONFIG_NAME).get("block_out_channels")
    elif _codec_name(folder / CONFIG_NAME) == TinyCodec.name:
        levels = _read(folder / CONFIG_NAME).get("encoder_blocks")
    if not isinstance(levels, list) or not levels:
        load_codec(folder)  # says what is wrong with it
        raise UserError(f"{folder}: its config.json does not tell the levels of its encoder")
    return 2 ** (len(levels) - 1)


def codec_without_weights(folder: Path | str) -> Codec:
    """The codec whose configs lie in `folder`, on the meta device: sizes alone. UserError for anything else."""
    folder = Path(folder)
    try:
        if all((folder / part / CONFIG_NAME).is_file() for part in SVD_FOLDERS[:2]):
            from mobilevd.codecs.svd import SVDCodec

            return SVDCodec.without_weights(folder)
        if _codec_name(folder / CONFIG_NAME) == TinyCodec.name:
            return TinyCodec.without_weights(folder)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{folder}: no codec can be built from its configs ({' '.join(str(error).split())})") from None
    return load_codec(folder)  # says what is wrong with it


def _codec_name(config_file: Path) -> str | None:
    return _read(config_file).get("codec")


def _read(config_file: Path) -> dict[str, Any]:
    """A JSON object from a file; empty if it is not there or is none."""
    try:
        config = load_json(config_file)
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
