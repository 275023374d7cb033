"""Whether a codec is one that a model can be trained with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mobilevd.codecs.base import Codec
from mobilevd.errors import UserError


def check_fits(codec: Codec, folder: Path, model_config: Mapping[str, Any]) -> None:
    """Raise UserError unless the codec in `folder` gives what the UNet of a config takes: embeddings and latents."""
    context = model_config["cross_attention_dim"]
    for what, ours, theirs in (
        ("an image embedding of width", codec.embedding_dim, context if isinstance(context, int) else context[0]),
        ("latents of channels", codec.latent_channels, model_config["out_channels"]),
    ):
        if ours != theirs:
            raise UserError(f"base.codec: {folder} gives {what} {ours}, base.model wants {theirs}")
