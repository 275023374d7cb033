"""One evaluation of generated against reference clips, and everything of the procedure that changes the numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from eval.clips import check_clips, describe_form
from eval.features import FeatureExtractor
from eval.figures import measure_figures
from eval.frechet import frechet_distance
from mobilevd.errors import UserError

MAX_PSNR_DB = 100.0  # given for identical frames, whose PSNR is infinite: JSON has no infinity
VIDEO_SUFFIX = ".mp4"
ReadVideo = Callable[[Path], np.ndarray]  # a file -> uint8 (T, H, W, 3)


def first_frame_fidelity(generated: np.ndarray, conditions: np.ndarray) -> dict[str, float]:
    """The fidelity of frame 0 of clips (N, T, H, W, 3) to the conditioning frames (N, H, W, 3), both uint8.

    Mean over clips of PSNR (dB, peak 255) and of SSIM (11x11 Gaussian window of deviation 1.5, as Wang et al. 2004).
    """
    if conditions.dtype != np.uint8 or conditions.shape != generated[:, 0].shape:
        raise UserError(
            f"conditioning frames: uint8 {generated[:, 0].shape} wanted, got {conditions.dtype} {conditions.shape}"
        )
    a, b = (
        torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).double() / 255
        for x in (generated[:, 0], conditions)
    )
    psnr = peak_signal_noise_ratio(a, b, data_range=1.0, reduction="none", dim=(1, 2, 3))
    ssim = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    assert isinstance(ssim, torch.Tensor)  # a pair only where the full image is asked for
    return {"psnr_db": float(psnr.clamp(max=MAX_PSNR_DB).mean()), "ssim": float(ssim.mean())}


def evaluate_clips(
    generated: np.ndarray,
    reference: np.ndarray,
    extractor: FeatureExtractor,
    *,
    fps: float | None = None,
    conditions: np.ndarray | None = None,
) -> dict[str, Any]:
    """Distance, figures and protocol of generated clips against reference clips.

    `generated` is (N, T, H, W, 3), `reference` (M, T, H, W, 3), both uint8; the figures are those of `eval.figures`.
    `conditions` (N, H, W, 3), the frames that were animated, adds `first_frame` (PSNR and SSIM). Raises UserError if
    the sets differ in frames or size: a distance between clips of two lengths would compare the lengths.
    """
    check_clips(generated, min_frames=2, what="generated clips")
    check_clips(reference, min_frames=2, what="reference clips")
    if generated.shape[1:] != reference.shape[1:]:
        raise UserError(
            f"generated clips are {describe_form(generated)} and reference clips {describe_form(reference)}: "
            "make them the same"
        )
    result: dict[str, Any] = {
        "distance": frechet_distance(extractor(generated), extractor(reference)),
        "distance_name": extractor.distance_name,
        "extractor": extractor.name,
        **measure_figures(generated, reference),
        "protocol": {
            "generated_clips": len(generated),
            "reference_clips": len(reference),
            "frames": int(generated.shape[1]),
            "height": int(generated.shape[2]),
            "width": int(generated.shape[3]),
            "fps": fps,
            **extractor.protocol,
        },
    }
    if conditions is not None:
        result["first_frame"] = first_frame_fidelity(generated, conditions)
    return result


def read_folder(folder: Path | str, read_video: ReadVideo) -> tuple[np.ndarray, list[Path]]:
    """Read all .mp4 files of a folder in the order of their names: uint8 (N, T, H, W, 3), and the files.

    Raises UserError if the folder is missing or empty, or if a clip differs from the first in frames or size.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == VIDEO_SUFFIX and not p.name.startswith("."))
    if not files:
        raise UserError(f"{folder}: holds no {VIDEO_SUFFIX} files to evaluate")
    clips = []
    for file in files:
        clip = read_video(file)
        check_clips(clip[None], what=str(file))
        if clips and clip.shape != clips[0].shape:
            raise UserError(
                f"{file}: {describe_form(clip[None])}, but {files[0].name} has {describe_form(clips[0][None])}"
            )
        clips.append(clip)
    return np.stack(clips), files


def evaluate_folders(
    generated_dir: Path | str,
    reference_dir: Path | str,
    extractor: FeatureExtractor,
    read_video: ReadVideo,
    *,
    fps: float | None = None,
) -> dict[str, Any]:
    """Evaluate two folders of .mp4 files with `evaluate_clips`; `read_video` fixes frames, rate and size."""
    generated, _ = read_folder(generated_dir, read_video)
    reference, _ = read_folder(reference_dir, read_video)
    return evaluate_clips(generated, reference, extractor, fps=fps)
