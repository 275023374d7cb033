"""Recall and precision of the detectors of shots on joined videos, whose cuts are known.

    python benchmarks/cut_detection.py [--real FOLDER] [--cases 6] [--skip-transnet]

A case joins 8 parts of 12 to 59 frames: of procedural scenes or, with --real, of the videos of a folder that have no cut
of their own (as far as one looks at them), by a cut or by a fade over 12 frames. A cut counts as found within one frame,
a fade within 8. The rows `uncut` count cuts that are
told inside the videos themselves. Figures go to
benchmarks/results/; the thresholds in training/data/index/detection.py follow from them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.index import adaptive, transnet
from training.data.index.adaptive import AdaptiveShots
from training.data.index.detection import describe_detection
from training.data.index.shots import ShotDetector
from training.data.index.small_frames import small_frame
from training.data.index.transnet import TransNetShots
from training.data.scenes import render_scene
from training.data.sources.source import open_source
from training.data.video_stream import decode, opened

PARTS, SHORTEST, LONGEST, FADE, LONGEST_VIDEO = 8, 12, 59, 12, 400
DETECTORS: dict[str, tuple[Callable[[], ShotDetector], object, str, list[float]]] = {
    "pyscenedetect, least change": (AdaptiveShots, adaptive, "MIN_CONTENT", [15.0, 8.0, 5.0]),
    "transnetv2, threshold": (TransNetShots, transnet, "TRANSNET_THRESHOLD", [0.5, 0.2, 0.1, 0.05]),
}


def load(folder: Path) -> list[np.ndarray]:
    """The first frames of every video, (T, 72, 128, 3)."""
    videos = []
    for video in open_source(folder):
        with opened(video, threads=1) as (container, stream):
            frames = [small_frame(timed.frame) for timed in islice(decode(container, stream, 0.0), LONGEST_VIDEO)]
        videos.append(np.stack([np.asarray(Image.fromarray(frame).resize((128, 72))) for frame in frames]))
    return videos


def join(videos: list[np.ndarray], fade: int, rng: random.Random) -> tuple[np.ndarray, list[int]]:
    """Parts of videos one after another, and the numbers of the frames where a part begins, or a fade is half done."""
    frames: list[np.ndarray] = []
    cuts: list[int] = []
    last = None
    for _ in range(PARTS):
        video = rng.choice([video for video in videos if video is not last])
        last, length = video, rng.randint(SHORTEST, LONGEST)
        begin = rng.randrange(max(1, len(video) - length))
        part = list(video[begin : begin + length])
        if frames:
            mixed = min(fade, len(part), len(frames))
            for k in range(mixed):
                weight = (k + 1) / (mixed + 1)
                frames[k - mixed] = ((1 - weight) * frames[k - mixed] + weight * part[k]).astype(np.uint8)
            cuts.append(len(frames) - mixed // 2)
            part = part[mixed:]
        frames += part
    return np.stack(frames), cuts


def told(detector: ShotDetector, frames: np.ndarray) -> list[int]:
    for frame in frames:
        detector.add(frame)
    return [first for first, _ in detector.finish()][1:]


def score(make: Callable[[], ShotDetector], cases: list[tuple[np.ndarray, list[int]]], within: int) -> dict[str, float]:
    found = there = right = said = 0
    for frames, cuts in cases:
        answers = told(make(), frames)
        found += sum(any(abs(cut - answer) <= within for answer in answers) for cut in cuts)
        right += sum(any(abs(cut - answer) <= within for cut in cuts) for answer in answers)
        there, said = there + len(cuts), said + len(answers)
    return {"cuts": there, "told": said, "recall": found / there, "precision": right / said if said else 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--skip-transnet", action="store_true")
    arguments = parser.parse_args()
    rng = random.Random(0)
    pools = {"procedural": [render_scene(seed, 72, 72, 128, 24) for seed in range(40)]}
    if arguments.real:
        pools["real"] = load(arguments.real)
    sets = {}
    for name, videos in pools.items():
        for kind, fade, within in (("cuts", 0, 1), (f"fades over {FADE} frames", FADE, 8)):
            sets[f"{name}, {kind}"] = ([join(videos, fade, rng) for _ in range(arguments.cases)], within)
    rows = []
    for label, (make, module, constant, values) in DETECTORS.items():
        if module is transnet and arguments.skip_transnet:
            continue
        for value in values:
            setattr(module, constant, value)
            for name, (cases, within) in sets.items():
                rows.append({"detector": f"{label} {value:g}", "set": name, **score(make, cases, within)})
                print(json.dumps(rows[-1]), flush=True)
            for name, videos in pools.items():
                wrong = sum(len(told(make(), video)) for video in videos)
                frames = sum(map(len, videos))
                rows.append(
                    {"detector": f"{label} {value:g}", "set": f"{name}, uncut", "frames": frames, "told": wrong}
                )
                print(json.dumps(rows[-1]), flush=True)
    now = datetime.now(UTC)
    machine = {"system": f"{platform.system()} {platform.machine()}", "python": platform.python_version()}
    versions = [describe_detection(name) for name in ("pyscenedetect", "transnetv2")]
    content = {"created": now.isoformat(timespec="seconds"), "machine": {**machine, "load": os.getloadavg()},
               "detectors": versions, "cases": arguments.cases, "rows": rows}  # fmt: skip
    file = Path(__file__).parent / "results" / f"cut_detection-{now.date().isoformat()}.json"
    file.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
