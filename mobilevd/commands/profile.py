"""The profile of a program on a device: the times in the runner's trace, by our modules' names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from device_runner.bundle.manifest import MANIFEST
from device_runner.bundle.read import Bundle
from export.profile.locate import by_block, by_part, locate
from export.profile.origins import Origin, read_origins
from export.profile.trace import OperatorTime, Profile, by_operator, read_trace
from mobilevd.errors import UserError

TOP = 10
OTHER_ORDER = (
    "the runtime ran the operators of this program in another order than the bundle's graph has, so which block each "
    "belongs to cannot be told"
)
NO_PLACES = (
    "the bundle does not say where in the model the program's operators are (manifest: programs.{}.places); only programs "
    "whose whole graph is one XNNPACK delegate have it, exported by this version or a later one"
)


def read_profile(etdump: Path, bundle: Bundle, program: str, runs: int) -> dict[str, Any]:
    """Return time by block, part of blocks and operator, from an ETDump of `runs` evaluations of a bundle's program.

    Times are medians over the runs, in milliseconds; shares are of the whole evaluation. `by_block` and `by_part` are
    None if blocks cannot be told, with the reason in `by_block_reason`.

    Raises:
        UserError: a trace that cannot be read or has another number of runs.
        RunnerError: a bundle without that program.
    """
    profile = read_trace(etdump, runs)
    places = _places(bundle, program)
    paths = locate(profile.events, places) if places is not None else None
    reason = None if paths is not None else NO_PLACES.format(program) if places is None else OTHER_ORDER
    blocks = None if paths is None else _rows("block", by_block(profile.events, paths), profile)
    parts = None if paths is None else _rows("part", by_part(profile.events, paths), profile)
    return {
        "runs": runs,
        "total_ms": profile.total_ms,
        "outside_delegate_share": profile.outside_share,
        "by_block": blocks,
        "by_block_reason": reason,
        "by_part": parts,
        "by_operator": _rows("operator", by_operator(profile.events), profile)[:TOP],
        "operators": len(profile.events),
        "unaccounted_ms": profile.unaccounted_ms,
    }


def _places(bundle: Bundle, program: str) -> list[Origin] | None:
    """The origins of a program's operators; None if the bundle has none."""
    name = bundle.manifest.programs[bundle.program(program).name].places
    if name is None:
        return None
    if Path(name).name != name or name not in bundle.files:
        raise UserError(
            f"{bundle.folder / MANIFEST}: programs.{program}.places is {name!r}; it must name one of the bundle's own files"
        )
    return read_origins(bundle.folder / name)


def _rows(key: str, rows: Iterable[OperatorTime], profile: Profile) -> list[dict[str, Any]]:
    total = profile.total_ms
    return [
        {key: row.operator, "ms": row.ms, "share": row.ms / total if total else 0.0, "count": row.count} for row in rows
    ]


def print_profile(profile: dict[str, Any], console: Console) -> None:
    """Print tables by block, part and operator, and the time that is in none of them."""
    for key, title in (("block", "block"), ("part", "part"), ("operator", f"operator (top {TOP})")):
        rows = profile[f"by_{key}"] or []
        if len(rows) > (key == "part"):  # rows that are all one part tell nothing: the program is no UNet
            table = Table()
            table.add_column(title, overflow="fold")
            for column in ("ms", "share", "operators"):
                table.add_column(column, justify="right", no_wrap=True)
            for row in rows:
                table.add_row(row[key], f"{row['ms']:.3f}", f"{row['share']:.1%}", str(row["count"]))
            console.print(table)
    if profile["by_block_reason"]:
        console.print(f"no times by block: {profile['by_block_reason']}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"one evaluation {profile['total_ms']:.3f} ms (traced, median of {profile['runs']}); "
        f"{profile['outside_delegate_share']:.1%} outside the delegate; "
        f"{profile['unaccounted_ms']:.3f} ms in no operator's time",
        highlight=False,
        soft_wrap=True,
    )
