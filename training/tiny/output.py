"""The folder that a command here writes its model to, checked before hours of training."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from mobilevd.errors import UserError
from mobilevd.places import Foreign, check_output_folder


def check_option(parser: argparse.ArgumentParser, out: Path, foreign: Foreign, inputs: Iterable[Path] = ()) -> None:
    """End the command with a line if the folder must not or cannot be written (`check_output_folder`)."""
    try:
        check_output_folder(out, foreign, inputs)
    except UserError as error:
        parser.error(str(error))
