"""What a table can say, in words: which rows differ, which these clips do not tell apart, which figures are doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from eval.domain import TOLERATED
from eval.figures import Row, number, significant
from mobilevd.plain_text import markdown_text

EQUAL = "≈"
"""After the distance of a row that the clips do not tell from the row above."""


DOUBTFUL = "?"
"""After a latency whose measurement has warnings."""
LATENCIES = {"host_ms": "host ms", "device_ms": "device ms"}


def is_equal_to_previous(row: Row) -> bool:
    """True if the difference to the row above is within noise."""
    compared = (row.get("against_previous") or {}).get("distance")
    return isinstance(compared, Mapping) and compared.get("equal_within_noise") is True


def legend(rows: Sequence[Row]) -> list[str]:
    """What the signs in the table's distances mean; empty if there are none."""
    lines = []
    if any(number(row, "distance_high") is not None for row in rows):
        lines.append(
            "± is half a 95 % interval: other clips, as many and against the same reference, would move the distance so far"
        )
    if any(is_equal_to_previous(row) for row in rows):
        lines.append(
            f"{EQUAL} is equal to the row above within noise: the 95 % interval of their difference, in pairs of clips "
            "from the same first frame, holds 0"
        )
    for key, header in LATENCIES.items():
        if doubts := _doubts(rows, key):
            lines.append(f"{DOUBTFUL} {header} is doubtful ({doubts}); the bench files of the rows say more")
    strange = [
        f"{share:.0%} of {row['name']}" for row in rows if (share := number(row, "outside_domain") or 0) > TOLERATED
    ]
    if strange:
        lines.append(
            f"clips unlike all that the network of the distance was trained on: {', '.join(strange)}; there a distance "
            "says that clips are strange, and little about how good they are"
        )
    return lines


def _doubts(rows: Sequence[Row], key: str) -> str:
    """Kinds of doubt with their rows: "noisy: base, + funnels; busy: base"."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        for doubt in row.get(f"{key}_doubts") or []:
            kinds.setdefault(str(doubt).split(":")[0], []).append(str(row["name"]))
    return "; ".join(f"{kind}: {', '.join(dict.fromkeys(names))}" for kind, names in kinds.items())


def pairs_markdown(pairs: Sequence[Mapping[str, Any]], names: Sequence[str], distance_name: str) -> list[str]:
    """Lines with a table of every row against the one above and against the first; empty without pairs.

    `pairs` are all pairs of rows, (0, 1), (0, 2) and so on (`results["pairs"]`).
    A 95 % interval misses now and then, so the pairs of a long table may hold one that does.
    """
    found = dict(zip(combinations(range(len(names)), 2), pairs, strict=False))  # names may stand twice
    lines = []
    for j, name in enumerate(names):
        for i in dict.fromkeys((j - 1, 0)):
            if (pair := found.get((i, j))) is not None:
                compared = pair["distance"]
                verdict = "equal within noise" if compared["equal_within_noise"] else _direction(compared["difference"])
                interval = f"{_signed(compared['low'])} to {_signed(compared['high'])}"
                cells = [name, names[i], _signed(compared["difference"]), interval, verdict]
                lines.append("| " + " | ".join(map(markdown_text, cells)) + " |")
    if not lines:
        return []
    head = f"| row | against | difference of {markdown_text(distance_name)} | 95 % interval | |"
    return ["", "## Differences", "", head, "|---|---|---:|---:|---|", *lines]


def _direction(difference: float) -> str:
    return "larger" if difference > 0 else "smaller"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{significant(value)}"
