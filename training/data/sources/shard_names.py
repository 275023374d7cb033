"""Names of many shards in one, as webdataset writes them: `shards-{000..099}.tar`."""

from __future__ import annotations

import itertools
import os
import re

from mobilevd.errors import UserError

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MAX_SHARDS = 1_000_000


def expand_braces(name: str) -> list[str]:
    """All names of a pattern; a number keeps the zeros before it. A name without a range of numbers is its own."""
    parts = RANGE.split(name)  # text, first, last, text, ...
    ranges = []
    for first, last in zip(parts[1::3], parts[2::3], strict=True):
        if int(first) > int(last):
            raise UserError(f"{name}: the range {{{first}..{last}}} is empty: its first number is above its last")
        if int(last) - int(first) >= MAX_SHARDS:
            raise UserError(f"{name}: the range {{{first}..{last}}} has more than {MAX_SHARDS:,} numbers")
        ranges.append([f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)])
    pattern = "{}".join(text.replace("{", "{{").replace("}", "}}") for text in parts[0::3])
    return [pattern.format(*numbers) for numbers in itertools.product(*ranges)]


def names_below(paths: list[str]) -> list[str]:
    """Paths of files with slashes, relative to the deepest folder that holds them all."""
    folder = os.path.commonpath([path.rpartition("/")[0] for path in paths])
    return [path[len(folder) :].lstrip("/") for path in paths]
