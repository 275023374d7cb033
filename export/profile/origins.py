"""The origin in the model of each operator of a lowered program, kept beside the program for later profiles.

`PROGRAM.places.json` holds the nodes of the delegate's graph in order, each as a pair of indices: into `kinds` (of
operators, in XNNPACK's names) and into `paths` (of modules, "" for the model itself).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mobilevd.errors import UserError
from mobilevd.files import atomic_write_bytes
from mobilevd.json_files import load_json

SCHEMA_VERSION = 1


class Origin(NamedTuple):
    """A node of a delegate's graph: its kind ("XNNConv2d"), and the path of the module that it comes from."""

    kind: str
    path: str


def origins_file(program: Path) -> Path:
    """The file that holds the origins of a program file."""
    return program.with_suffix(".places.json")


def write_origins(file: Path, places: Sequence[Origin]) -> None:
    kinds = {kind: i for i, kind in enumerate(dict.fromkeys(place.kind for place in places))}
    paths = {path: i for i, path in enumerate(dict.fromkeys(place.path for place in places))}
    content = {
        "schema_version": SCHEMA_VERSION,
        "kinds": list(kinds),
        "paths": list(paths),
        "nodes": [[kinds[place.kind], paths[place.path]] for place in places],
    }
    atomic_write_bytes(file, (json.dumps(content, separators=(",", ":")) + "\n").encode())


def read_origins(file: Path) -> list[Origin]:
    """Read the origins; UserError for a file that is not there or holds something else."""
    try:
        content = load_json(file)
        if content["schema_version"] != SCHEMA_VERSION:
            raise UserError(
                f"{file}: schema_version is {content['schema_version']!r}; this program reads version {SCHEMA_VERSION}"
            )
        kinds, paths = content["kinds"], content["paths"]
        return [Origin(str(kinds[kind]), str(paths[path])) for kind, path in content["nodes"]]
    except OSError as error:
        raise UserError(f"{file}: the operators' places cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{file}: does not hold the places of a program's operators ({error!r})") from None
