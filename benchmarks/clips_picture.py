"""The README's picture: frames of a real clip, of the base's and of the exported program's, from a finished run.

python benchmarks/clips_picture.py RUN [--clip 1] [--out docs/pictures/clips.png]
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from eval.samples import contact_sheet  # noqa: E402
from mobilevd.files import atomic_write_bytes  # noqa: E402
from mobilevd.report.run_data import read_run  # noqa: E402

WIDTH = 128
"""Pixels of a frame in the picture."""


def frames_of(file: Path) -> np.ndarray:
    """The frames of a clip, uint8 (T, H, W, 3), at the picture's width."""
    with av.open(str(file)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    height = round(WIDTH * frames[0].height / frames[0].width)
    return np.stack([np.asarray(frame.resize((WIDTH, height), Image.Resampling.LANCZOS)) for frame in frames])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--clip", type=int, action="append", help="number of a clip; may be repeated; default: 1 and 2")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs/pictures/clips.png")
    arguments = parser.parse_args()
    run = read_run(arguments.run)
    base, last = run.rows[0], run.rows[-1]
    columns = [("real", run.real_clips), (f"base, {base.figures['nfe']} steps", base.clips)]
    columns.append(("one step, exported", last.program_clips))
    rows, labels = [], []
    for number in arguments.clip or [1, 2]:
        for label, files in columns:
            rows.append(frames_of(files[number - 1]))
            labels.append(label)
    buffer = io.BytesIO()
    contact_sheet(rows, labels, scale=1).save(buffer, format="PNG", optimize=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(arguments.out, buffer.getvalue())


if __name__ == "__main__":
    main()
