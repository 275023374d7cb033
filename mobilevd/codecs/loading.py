"""The loader of codecs, which picks the class by what lies in the folder."""

from __future__ import annotations

import json
from pathlib import Path

from mobilevd.codecs.base import Codec
from mobilevd.codecs.tiny import CONFIG_NAME, WEIGHTS_NAME, TinyCodec
from mobilevd.errors import UserError

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


def _codec_name(config_file: Path) -> str | None:
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config.get("codec") if isinstance(config, dict) else None
