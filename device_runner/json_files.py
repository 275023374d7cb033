"""JSON files from anywhere: read with limits on their size, depth and numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

MAX_BYTES = 256 << 20
"""Of a report with every sample of a day on many phones."""
MAX_DIGITS = 500


def parse_json(data: bytes, finite: bool = True) -> Any:
    """The content of JSON text; ValueError if it is none, nested too deeply, or holds a number that is not finite.

    Without `finite`, such numbers are left to a reader that names their place.
    """
    numbers: dict[str, Any] = {"parse_constant": _refuse, "parse_float": _finite} if finite else {}
    try:
        return json.loads(data, parse_int=_whole, **numbers)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """A file's content; OSError, or ValueError if it is larger than any of its kind."""
    size = path.stat().st_size
    if size > max_bytes:
        raise ValueError(f"{size} bytes, more than the {max_bytes} that are read")
    return path.read_bytes()


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON's")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)  # 1e999


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)
