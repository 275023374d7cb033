"""Configs of networks that transformers or diffusers load: those that make other code run are refused."""

from __future__ import annotations

from pathlib import Path

from mobilevd.errors import UserError
from mobilevd.json_files import load_json

CODE_KEYS = ("quantization_config", "auto_map", "custom_pipelines", "_attn_implementation", "attn_implementation")
"""Keys by which the libraries choose code to fetch or import."""


def check_no_code(file: Path) -> None:
    """Raise UserError for a config that makes its library load code, from the network or from beside it.

    A file that is missing or no JSON is left to the library, which says what is wrong with it.
    """
    try:
        config = load_json(file)
    except (OSError, ValueError):
        return
    for key in CODE_KEYS:
        if isinstance(config, dict) and config.get(key) not in (None, "eager"):
            raise UserError(f"{file}: {key} makes other code run when it is loaded; remove it")
