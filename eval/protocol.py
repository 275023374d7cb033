"""One evaluation of generated against reference clips, and everything of the procedure that changes the numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from eval.clips import check_clips, describe_form, form_of
from eval.distances.frechet import frechet_distance
from eval.distances.make import make_distance
from eval.features import FeatureExtractor
from eval.figures import combine_figures
from eval.protocol_settings import ProtocolSettings
from eval.record import protocol_record
from eval.summary import ClipSummary, join_summaries, summarize
from mobilevd.errors import UserError

MAX_PSNR_DB = 100.0  # given for identical frames, whose PSNR is infinite: JSON has no infinity
VIDEO_SUFFIX = ".mp4"
CLIPS_AT_A_TIME = 32  # of a folder in memory: 110 MB of 16 frames at 320x240
ReadVideo = Callable[[Path], np.ndarray]  # a file -> uint8 (T, H, W, 3)


def first_frame_fidelities(generated: np.ndarray, conditions: np.ndarray) -> dict[str, np.ndarray]:
    """The fidelity of frame 0 of clips (N, T, H, W, 3) to the conditioning frames (N, H, W, 3), both uint8: (N,) each.

    PSNR (dB, peak 255) and SSIM (11x11 Gaussian window of deviation 1.5, as Wang et al. 2004) of each clip.
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
    return {"psnr_db": psnr.clamp(max=MAX_PSNR_DB).reshape(-1).numpy(), "ssim": ssim.reshape(-1).numpy()}


def first_frame_fidelity(generated: np.ndarray, conditions: np.ndarray) -> dict[str, float]:
    """The mean over clips of `first_frame_fidelities`."""
    return _means(first_frame_fidelities(generated, conditions))


def _means(values: dict[str, np.ndarray]) -> dict[str, float]:
    return {key: float(value.mean()) for key, value in values.items()}


def evaluate_summaries(
    generated: ClipSummary,
    reference: ClipSummary,
    extractor: FeatureExtractor,
    *,
    fps: float | None = None,
    settings: ProtocolSettings | None = None,
) -> dict[str, Any]:
    """Distance, figures and protocol of generated against reference clips; the figures are those of `eval.figures`.

    With the settings of a named protocol, whose extractor `load_protocol_extractor` gives, the distance is the
    protocol's, and `named_protocol` records it (`eval.record`); without, it is the Frechet distance.

    Raises UserError if the sets differ in frames or size: a distance between clips of two lengths would compare the
    lengths.
    """
    if generated.form != reference.form:
        ours, theirs = describe_form(generated.form), describe_form(reference.form)
        raise UserError(f"generated clips are {ours} and reference clips {theirs}: make them the same")
    frames, height, width = generated.form
    distance = make_distance(settings.distance) if settings else frechet_distance
    result: dict[str, Any] = {
        "distance": distance(generated.features, reference.features),
        "distance_name": settings.distance_name if settings else extractor.distance_name,
        "extractor": extractor.name,
        **combine_figures(generated.values, reference.values),
        "protocol": {
            "generated_clips": len(generated),
            "reference_clips": len(reference),
            "frames": frames,
            "height": height,
            "width": width,
            "fps": fps,
            **extractor.protocol,
        },
    }
    if settings:
        counts = {"generated": len(generated), "real": len(reference)}
        result["named_protocol"] = protocol_record(
            settings, extractor, result["distance"], **counts, form=generated.form, fps=fps
        )
    if generated.first_frame:
        result["first_frame"] = _means(generated.first_frame)
    return result


def evaluate_clips(
    generated: np.ndarray,
    reference: np.ndarray,
    extractor: FeatureExtractor,
    *,
    fps: float | None = None,
    conditions: np.ndarray | None = None,
    settings: ProtocolSettings | None = None,
) -> dict[str, Any]:
    """`evaluate_summaries` of clips that are in memory.

    `generated` is (N, T, H, W, 3), `reference` (M, T, H, W, 3), both uint8. `conditions` (N, H, W, 3), the frames that
    were animated, adds `first_frame` (PSNR and SSIM).
    """
    fidelities = None if conditions is None else first_frame_fidelities(generated, conditions)
    ours = summarize(generated, extractor, fidelities, what="generated clips")
    theirs = summarize(reference, extractor, what="reference clips")
    return evaluate_summaries(ours, theirs, extractor, fps=fps, settings=settings)


def summarize_folder(
    folder: Path | str, read_video: ReadVideo, extractor: FeatureExtractor
) -> tuple[ClipSummary, list[Path]]:
    """Summarize all .mp4 files of a folder in the order of their names, a few at a time; return the files, too.

    Raises UserError if the folder is missing or empty, or if a clip differs from the first in frames or size.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == VIDEO_SUFFIX and not p.name.startswith("."))
    if not files:
        raise UserError(f"{folder}: holds no {VIDEO_SUFFIX} files to evaluate")
    parts: list[ClipSummary] = []
    form: tuple[int, int, int] | None = None
    for start in range(0, len(files), CLIPS_AT_A_TIME):
        clips = []
        for file in files[start : start + CLIPS_AT_A_TIME]:
            clip = read_video(file)[None]
            check_clips(clip, what=str(file))
            form = form or form_of(clip)
            if form_of(clip) != form:
                raise UserError(
                    f"{file}: {describe_form(form_of(clip))}, but {files[0].name} has {describe_form(form)}"
                )
            clips.append(clip)
        parts.append(summarize(np.concatenate(clips), extractor, what=str(folder)))
    return join_summaries(parts), files


def evaluate_folders(
    generated_dir: Path | str,
    reference_dir: Path | str,
    extractor: FeatureExtractor,
    read_video: ReadVideo,
    *,
    fps: float | None = None,
) -> dict[str, Any]:
    """Evaluate two folders of .mp4 files with `evaluate_summaries`; `read_video` fixes frames, rate and size."""
    generated, _ = summarize_folder(generated_dir, read_video, extractor)
    reference, _ = summarize_folder(reference_dir, read_video, extractor)
    return evaluate_summaries(generated, reference, extractor, fps=fps)
