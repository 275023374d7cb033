"""JSON files from anywhere: read with limits, and with one line for whatever is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mobilevd.errors import UserError

MAX_BYTES = 64 << 20
"""Of a results file with every sample of a long measurement; nothing that is read here is larger."""
MAX_DEPTH = 100
MAX_DIGITS = 400
"""Of a number: the largest that a float holds has 309."""


def read_json(path: Path) -> Any:
    """`load_json`; raises UserError, in one line, for whatever is wrong with the file."""
    try:
        return load_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises OSError, or ValueError for a file that is too large, no UTF-8, no JSON, nested too deeply, or with a number that
    is none.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes, more than the {MAX_BYTES} that are read")
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_depth(content)
    return content


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON's")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _check_depth(content: Any) -> None:
    level, depth = [content], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                if any("\0" in key for key in value):
                    raise ValueError("a name with a NUL character")
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        level = [value for value in inner if isinstance(value, dict | list)]
