"""The values that a model's `config.json` may hold, by key: a file from elsewhere is checked before a model is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilevd.errors import UserError

LARGEST = 1_000_000
"""Beyond any width, count or side of a network that fits into a machine."""

_WHOLE = (
    "in_channels",
    "out_channels",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "num_frames",
)
_SCALES = ("temporal_scale", "spatial_scale")
_PER_LEVEL = ("layers_per_block", "cross_attention_dim", "transformer_layers_per_block", "num_attention_heads")
_LISTS = ("down_block_types", "up_block_types")
_FLAGS = ("live_funnels", "temporal_gates")


MAX_LEVELS, MAX_LAYERS, MAX_WIDTH = 16, 64, 65_536
"""Of a UNet: levels, layers of a level (and transformer layers in each of them), channels."""


def check_values(arguments: Mapping[str, Any]) -> None:
    """Raise UserError, naming the key and what would be right, for a value of a wrong kind.

    Keys that no model has are left to the model's constructor, and so is whether the values fit together.
    """
    for key, value in arguments.items():
        right, wanted = _rule(key, value)
        if not right:
            raise UserError(f"config: {key} is {_short(value)}; it must be {wanted}")
        if (most := _most(key)) is not None:
            values = value if isinstance(value, list) else [value]
            if len(values) > MAX_LEVELS or any(isinstance(each, int) and each > most for each in values):
                raise UserError(
                    f"config: {key} is {_short(value)}; up to {MAX_LEVELS} levels of up to {most} are built"
                )


def _most(key: str) -> int | None:
    """The largest number of a key whose size decides how much is built."""
    if key in ("layers_per_block", "transformer_layers_per_block"):
        return MAX_LAYERS
    return MAX_WIDTH if key in ("block_out_channels", "cross_attention_dim", "in_channels", "out_channels") else None


def _rule(key: str, value: Any) -> tuple[bool, str]:
    """Whether the value is of the kind that the key has, and that kind in words."""
    if key in _WHOLE or key in _SCALES:
        return _is_whole(value), "a whole number from 1"
    if key in _PER_LEVEL:
        return _is_whole(value) or _is_list(value, _is_whole), "a whole number from 1, or a list of one per level"
    if key == "block_out_channels":
        return _is_list(value, _is_whole), "a list of whole numbers, one per level"
    if key in _LISTS:
        return _is_list(value, _is_text), "a list of names of block types, one per level"
    if key == "sample_size":
        right = value is None or _is_whole(value) or (_is_list(value, _is_whole) and len(value) == 2)
        return right, "a whole number from 1, a list of height and width, or null"
    if key == "temporal_blocks":
        return value is None or value == [] or _is_list(value, _is_text), "a list of names of blocks, or null"
    if key == "inner_widths":
        right = value is None or (
            isinstance(value, Mapping) and all(_is_text(name) and _is_whole(width) for name, width in value.items())
        )
        return right, "an object of a width per layer, or null"
    if key in _FLAGS:
        return isinstance(value, bool), "true or false"
    return True, ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any, of: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(of(entry) for entry in value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
