"""The features and figures of a set of clips in a file: a reference is read once, and compared with many times."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from eval.frames.fid import FrameStatistics
from eval.gather import GatheredClips
from mobilevd.errors import UserError
from mobilevd.files import atomic_file

KIND = "mobilevd clip features 1"
WHERE = "give another file, or move this one away to make it anew"


def is_feature_file(file: Path) -> bool:
    """True for what `write_features` writes, and for no other file."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return str(arrays["kind"]) == KIND
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return False


def write_features(file: Path, clips: GatheredClips, identity: dict[str, Any]) -> None:
    """Write gathered clips and what they were made by, a dictionary of JSON; an .npz without pickles."""
    arrays: dict[str, Any] = {"kind": KIND, "identity": json.dumps(identity, sort_keys=True), "names": clips.names}
    arrays |= {f"features.{name}": clips.features_of(name) for name in clips.features}
    arrays |= {f"value.{key}": clips.values_of(key) for key in clips.values}
    if clips.frames is not None:
        arrays |= {"frames.count": clips.frames.count, "frames.mean": clips.frames.mean}
        arrays["frames.scatter"] = clips.frames.scatter
    with atomic_file(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{name: np.asarray(value) for name, value in arrays.items()})


def read_features(file: Path, identity: dict[str, Any]) -> GatheredClips:
    """Read what `write_features` wrote by the same identity.

    Raises UserError, in one line, for a file of another kind, a damaged one, or the first thing that it was made by
    otherwise.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        if str(content["kind"]) != KIND:
            raise ValueError
        made_by = json.loads(str(content["identity"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(f"{file}: holds no features of clips, or is damaged; {WHERE}") from None
    for key, value in json.loads(json.dumps(identity)).items():
        if made_by.get(key) != value:
            raise UserError(f"{file}: made with {key} {made_by.get(key)}, but {value} is wanted now; {WHERE}")
    names = [str(name) for name in content["names"]]
    clips = GatheredClips(names)
    for name, array in content.items():
        kind, _, key = name.partition(".")
        if kind in ("features", "value"):
            if len(array) != len(names) or (kind == "features" and not np.isfinite(array).all()):
                raise UserError(f"{file}: {name} does not fit its {len(names)} clips; {WHERE}")
            if kind == "features":
                clips.features[key] = list(array)
            else:
                clips.values[key] = array.tolist()
    if "frames.count" in content:
        mean, scatter = content["frames.mean"], content["frames.scatter"]
        clips.frames = FrameStatistics(int(content["frames.count"]), mean, scatter)
    return clips
