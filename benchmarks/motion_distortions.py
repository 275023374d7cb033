"""What FD-motion sees: every distortion of real clips against the distance that sampling alone makes.

    python benchmarks/motion_distortions.py [--videos DIR] [--encoder FOLDER] [--out FILE]

Clips are split at random into two halves: the distance between them is sampling noise, whose mean and deviation come from
20 splits. Then one half is distorted and compared with the other, undistorted one: by the kinds of damage of the encoder's
training (`eval.distortions`) at a quarter of and at full strength, in light and colours, which a distance should see
without being led by them, and played backwards, which it should take for real. On scenes, and on the videos of a folder if
one is given. Results go to benchmarks/results/ with machine and versions.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from eval.distances.frechet import frechet_distance  # noqa: E402
from eval.distortions import DISTORTIONS  # noqa: E402
from eval.features import load_extractor  # noqa: E402
from eval.motion_encoder import MotionEncoderExtractor  # noqa: E402
from mobilevd.commands.evaluate_clips import ClipChoice, ClipForm, plan_clips, probe_all, read_run  # noqa: E402
from mobilevd.pixels import to_float  # noqa: E402
from training.data.scenes import render_scene  # noqa: E402
from training.data.sources.source import open_source  # noqa: E402

FRAMES, HEIGHT, WIDTH, FPS = 8, 32, 64, 7.0
SCENES, FIRST_SCENE = 420, 5_000_000  # far from the scenes of all trainings
SPLITS = 20

Change = Callable[[np.ndarray], np.ndarray]


def damage(name: str, strength: float) -> Change:
    def change(clips: np.ndarray) -> np.ndarray:
        x = to_float(torch.from_numpy(clips)).permute(0, 4, 1, 2, 3)
        strengths, generator = torch.full((len(x),), strength), torch.Generator().manual_seed(0)
        damaged = DISTORTIONS[name](x, strengths, generator).permute(0, 2, 3, 4, 1)
        return ((damaged + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()

    return change


def levels(change: Change) -> Change:
    return lambda clips: np.clip(np.round(change(clips.astype(np.float64))), 0, 255).astype(np.uint8)


LIGHT: dict[str, Change] = {
    "brightness + 30 levels": levels(lambda x: x + 30),
    "brightness - 30 levels": levels(lambda x: x - 30),
    "contrast x 0.7": levels(lambda x: (x - 127.5) * 0.7 + 127.5),
    "contrast x 1.3": levels(lambda x: (x - 127.5) * 1.3 + 127.5),
    "gamma 0.7": levels(lambda x: 255 * (x / 255) ** 0.7),
    "red and blue swapped": lambda clips: clips[..., ::-1].copy(),
    "grey": levels(lambda x: np.repeat(x.mean(-1, keepdims=True), 3, axis=-1)),
}
CHANGES: dict[str, Change] = {
    "none": lambda clips: clips,
    "backwards": lambda clips: clips[:, ::-1].copy(),
    **LIGHT,
    **{f"{name}, strength {strength:g}": damage(name, strength) for name in DISTORTIONS for strength in (0.25, 1.0)},
}


def read_folder(folder: Path) -> np.ndarray:
    """All clips of a folder's videos that do not overlap, (N, T, H, W, 3) uint8."""
    form = ClipForm(FRAMES, FPS, HEIGHT, WIDTH)
    plan = plan_clips(probe_all(open_source(folder), with_content=False), form, ClipChoice(None))
    clips = [clip for run in plan.runs for clip in read_run(run, form)]
    return np.stack([clip for clip in clips if not isinstance(clip, str)])


def measure(extractor: MotionEncoderExtractor, clips: np.ndarray) -> dict[str, Any]:
    """Distances of the distorted first half of clips to the second, and those of halves that are not distorted."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(clips))
    half = len(clips) // 2
    first, features = clips[order[:half]], extractor(clips[order[: 2 * half]])
    halves = []
    for _ in range(SPLITS):
        split = rng.permutation(2 * half)
        halves.append(frechet_distance(features[split[:half]], features[split[half:]]))
    rows = {}
    for name, change in CHANGES.items():
        changed = extractor(change(first))
        rows[name] = {
            "distance": frechet_distance(changed, features[half:]),
            "outside_domain": float(extractor.is_outside(changed).mean()),
        }
    noise = {"mean": float(np.mean(halves)), "deviation": float(np.std(halves, ddof=1)), "splits": SPLITS}
    return {"clips_in_each_half": half, "sampling_noise": noise, "distortions": rows}


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row per distortion, two columns per set of clips."""
    head = [f"{name}, {2 * each['clips_in_each_half']} clips" for name, each in found.items()]
    lines = ["| distortion | " + " | ".join(f"{name} | times noise" for name in head) + " |"]
    lines.append("|---|" + "---:|---:|" * len(head))
    cells = " | ".join(
        f"{each['sampling_noise']['mean']:.2f} ± {each['sampling_noise']['deviation']:.2f} | 1.0"
        for each in found.values()
    )
    lines.append(f"| sampling noise | {cells} |")
    for name in CHANGES:
        cells = " | ".join(
            f"{each['distortions'][name]['distance']:.2f} | "
            f"{each['distortions'][name]['distance'] / each['sampling_noise']['mean']:.1f}"
            for each in found.values()
        )
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="a folder of real videos, at any depth")
    parser.add_argument("--encoder", type=Path, help="a motion encoder's folder; the shipped one if none is given")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    extractor = load_extractor(f"motion:{options.encoder}" if options.encoder else "motion")
    assert isinstance(extractor, MotionEncoderExtractor)
    sets = {"scenes": np.stack([render_scene(FIRST_SCENE + i, FRAMES, HEIGHT, WIDTH, FPS) for i in range(SCENES)])}
    if options.videos:
        sets["videos"] = read_folder(options.videos)
    found = {name: measure(extractor, clips) for name, clips in sets.items()}
    now = datetime.now(UTC)
    result = {
        "created": now.isoformat(timespec="seconds"),
        "machine": {"platform": platform.platform(), "processor": platform.processor()},
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "encoder": {"name": extractor.name, "sha256": extractor.sha256},
        "sets": found,
    }
    out = options.out or ROOT / f"benchmarks/results/motion_distortions-{now:%Y-%m-%d}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(found))
    print(f"written: {out}")


if __name__ == "__main__":
    main()
