"""Files that come with the package: the configurations in `configs/` and the tiny models in `assets/`.

In a checkout they lie beside the packages; a wheel carries them in `mobilevd/shipped` (see `setup.py`).
"""

from __future__ import annotations

from pathlib import Path

_IN_WHEEL = Path(__file__).resolve().parent / "shipped"
SHIPPED = _IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).resolve().parents[1]
"""The folder that holds `configs` and `assets`."""
