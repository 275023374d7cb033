"""`mobilevd evaluate`: compares any two folders of clips."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from eval.features import load_extractor
from eval.protocol import evaluate_folders
from mobilevd.errors import UserError
from mobilevd.files import atomic_write_json
from mobilevd.places import check_output_file, is_json_with
from mobilevd.terminal import TerminalConsole
from training.data.video import read_clip
from training.data.video_stream import probe


def evaluate_command(
    generated: Path,
    reference: Path,
    features: str,
    num_frames: int | None,
    fps: float | None,
    json: Path | None,
    console: Console | None = None,
    trusted: str | None = None,
) -> None:
    """Print the distance and the motion ratio of generated clips against reference ones, and write all figures as JSON.

    Args:
        num_frames, fps: length and rate of the compared clips; None takes those of the first generated clip, which also
            sets the size.
        trusted: SHA-256 of a TorchScript file that may be loaded (`eval.networks.i3d_torchscript`).

    Raises:
        UserError: no clips, clips that cannot be read or differ, an unknown feature extractor.
    """
    if json is not None:
        check_output_file(json, is_json_with("distance", "motion_ratio"), "an evaluation", [generated, reference])
    first = next(iter(sorted(generated.glob("*.mp4"))), None)
    if first is None:
        raise UserError(f"{generated}: holds no .mp4 files to evaluate")
    form = probe(first)
    count, rate = num_frames or form.num_frames, fps or form.fps
    result = evaluate_folders(
        generated,
        reference,
        load_extractor(features, trusted=trusted),
        lambda file: read_clip(file, count, rate, 0.0, form.height, form.width),
        fps=rate,
    )
    if json is not None:
        atomic_write_json(json, result)
    (console or TerminalConsole()).print(
        f"{result['distance_name']} {result['distance']:.4f}, motion ratio {result['motion_ratio']:.3f}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
