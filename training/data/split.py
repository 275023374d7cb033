"""Which videos are judged by and which are trained on: a rule on names, and the record of a run that it never leaves.

A video has a rank that its name and the seed alone decide. A fraction holds out the videos below it, whatever their
neighbours; a number holds out the videos of the lowest ranks, and what comes later is trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.json_files import load_json


@dataclass(frozen=True)
class Split:
    """Names of videos (`Video.whole_name`) on either side; no name is on both."""

    judged: frozenset[str]
    trained: frozenset[str]


def rank(name: str, seed: int) -> float:
    """A number in [0, 1) for a name, uniform over names; videos of low rank are judged by."""
    digest = hashlib.sha256(f"split/{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_names(names: Iterable[str], holdout: float, seed: int, known: Split | None = None) -> Split:
    """Split videos by the rule; those that are known keep their side, and stay known if they are gone.

    `holdout` is a fraction below 1, or else a number of videos. If a fraction leaves a side without any of `names`, the
    new name that is nearest to it goes there.

    Raises UserError if there is only one video, if the number leaves none to train on, or if all are known to be on one
    side.
    """
    known = known or Split(frozenset(), frozenset())
    names = set(names)
    if len(names) < 2:
        raise UserError("one usable video cannot be split into training and evaluation; add videos")
    if holdout >= len(names) and not known.trained & names:
        raise UserError(
            f"data.holdout is {holdout:.0f} of {len(names)} usable videos, which leaves none to train on: hold out fewer"
        )
    new = sorted(names - known.judged - known.trained, key=lambda name: (rank(name, seed), name))
    if holdout < 1:
        held_out = {name for name in new if rank(name, seed) < holdout}
    else:
        held_out = set(new[: max(0, round(holdout) - len(known.judged))])
    judged = known.judged | held_out
    trained = known.trained | {name for name in new if name not in judged}
    if not judged & names and new:
        judged, trained = judged | {new[0]}, trained - {new[0]}
    elif not trained & names and new:
        judged, trained = judged - {new[-1]}, trained | {new[-1]}
    if not judged & names or not trained & names:
        side = "trained on" if not judged & names else "held out for evaluation"
        raise UserError(
            f"all {len(names)} usable videos were {side} before in this run; add videos, or the missing ones"
        )
    return Split(judged, trained)


def recorded_split(file: Path, names: Iterable[str], holdout: float, seed: int) -> Split:
    """`split_names` with what an earlier start wrote to `file`, where the result is written, too.

    Raises UserError for a record that cannot be read, or of another holdout or seed; and as `split_names`.
    """
    asked = {"holdout": holdout, "seed": seed}
    known = _read(file, asked)
    split = split_names(names, holdout, seed, known)
    if split != known:
        atomic_write_json(file, {**asked, "judged": sorted(split.judged), "trained": sorted(split.trained)})
    return split


def _read(file: Path, asked: dict[str, Any]) -> Split | None:
    remedy = "give output=ANOTHER_FOLDER"
    try:
        record = load_json(file)
        sides = [frozenset(map(str, record[side])) for side in ("judged", "trained")]
        there = {key: record[key] for key in asked}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not the record of a split ({error!r}); {remedy}") from None
    if there != asked:
        raise UserError(f"{file}: the videos were split with {there}, now {asked} is asked for; {remedy}")
    return Split(*sides)
