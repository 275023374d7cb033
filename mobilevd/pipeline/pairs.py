"""The rows of a finished table, each compared with every other by the clips of the same first frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from eval.row_distances import compare_rows
from mobilevd.pipeline.row_features import read_features
from mobilevd.pipeline.rows import Entry


def compare_all(entries: Sequence[Entry], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every pair of rows (`compare_rows`), the earlier one first; each row also gets its own in `against_previous`.

    UserError for a row whose features cannot be read.
    """
    kept = [read_features(entry.folder) for entry in entries]
    pairs = []
    for i, j in combinations(range(len(rows)), 2):
        compared = compare_rows(rows[i], rows[j], [kept[i], kept[j]])
        pairs.append(compared)
        if j == i + 1:
            rows[j]["against_previous"] = compared
    return pairs
