"""The result of `mobilevd evaluate`: figures of the two sides, the table of single clips, and what is printed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from eval.figures import FIGURES, combine_figures
from eval.frames.fid import frame_distance
from eval.gather import GatheredClips
from eval.outliers import outlier_scores
from eval.protocol_figures import protocol_figures
from mobilevd.commands.evaluate_clips import ClipChoice, ClipForm
from mobilevd.commands.evaluate_settings import EvaluateSettings, joined
from mobilevd.commands.evaluate_side import Networks, Side
from mobilevd.files import atomic_write_text

OUTLIERS_TOLD = 5
TABLE_START = "set,clip,"


def compare(
    generated: GatheredClips,
    reference: GatheredClips,
    networks: Networks,
    settings: EvaluateSettings,
    form: ClipForm,
) -> dict[str, Any]:
    """All figures of generated against reference clips; the distance and outliers of several protocols are the first's."""
    result: dict[str, Any] = {}
    for name, extractor in networks.extractors:
        ours, theirs = generated.features_of(name), reference.features_of(name)
        clips = (form.num_frames, form.height, form.width)
        found = protocol_figures(
            networks.protocols[name], extractor, ours, theirs, form=clips, fps=form.fps, seed=settings.seed
        )
        result.setdefault("protocols", {})[name] = found
        if "distance" in result:
            continue
        result |= {key: found[key] for key in ("distance", "low", "high", "distance_name")}
        result["extractor"] = extractor.name
        scores = outlier_scores(ours, theirs)
        order = np.argsort(-scores, kind="stable")[:OUTLIERS_TOLD]
        result["outliers"] = [{"clip": generated.names[i], "score": _number(float(scores[i]))} for i in order]
    if generated.frames is not None and reference.frames is not None and networks.frames is not None:
        result["fid"] = frame_distance(generated.frames, reference.frames)
        result["fid_network"] = {"name": networks.frames.name, "sha256": networks.frames.sha256}
    of_sets = [figure.key for figure in FIGURES if figure.clip_value is not None]
    if "motion" in settings.metrics:
        sides = ({key: side.values_of(key) for key in of_sets} for side in (generated, reference))
        result |= combine_figures(*sides)
    for key in generated.values:
        if key not in of_sets:
            result[key] = mean_of_numbers(generated.values_of(key))
            if key in reference.values:
                result[f"reference_{key}"] = mean_of_numbers(reference.values_of(key))
    return result


def protocol(generated: Side, reference: int, form: ClipForm, choice: ClipChoice, networks: Networks) -> dict[str, Any]:
    """Everything of the procedure that changes the numbers."""
    found: dict[str, Any] = {
        "generated_clips": len(generated.gathered),
        "reference_clips": reference,
        "frames": form.num_frames,
        "height": form.height,
        "width": form.width,
        "fps": form.fps,
        "clips_per_video": "all" if choice.per_video is None else choice.per_video,
        "sampling": choice.sampling,
        "seed": choice.seed,
    }
    for _, extractor in networks.extractors:
        found |= extractor.protocol
    return found


def mean_of_numbers(values: np.ndarray) -> float | None:
    """The mean of what is a number; None if nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def write_table(file: Path, sides: dict[str, GatheredClips], networks: Networks) -> None:
    """A line per clip: its set and name, its figures, and how far its features lie from the reference clips."""
    keys = list(dict.fromkeys(key for side in sides.values() for key in side.values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scored = [name for name, _ in networks.extractors]
    writer.writerow([*TABLE_START.strip(",").split(","), *keys, *(f"outlier_score_{name}" for name in scored)])
    for what, clips in sides.items():
        scores = [outlier_scores(clips.features_of(name), sides["reference"].features_of(name)) for name in scored]
        for i, name in enumerate(clips.names):
            figures = [clips.values[key][i] if key in clips.values else math.nan for key in keys]
            numbers = [*figures, *(float(column[i]) for column in scores)]
            writer.writerow([what, name, *("" if not math.isfinite(x) else repr(x) for x in numbers)])
    atomic_write_text(file, text.getvalue())


HEADLINES = {
    "fid": "FID of frames",
    "psnr_db": "PSNR dB",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "warping_error": "warping error",
    "flicker": "flicker",
}


def show(result: dict[str, Any], console: Console) -> None:
    """Print the figures, what is missing, and what was left out."""

    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    protocols = result.get("protocols", {})
    first = []
    if len(protocols) == 1:
        first.append(f"{result['distance_name']} {_with_interval(result)}")
    for name, found in protocols.items() if len(protocols) > 1 else ():
        line(f"{found['distance_name']} {_with_interval(found)} by protocol {name}")
    if "motion_ratio" in result:
        first.append(f"motion ratio {result['motion_ratio']:.3f}")
    if first:
        line(", ".join(first))
    for key, title in HEADLINES.items():
        if key in result:
            value, other = result[key], result.get(f"reference_{key}")
            shown = "none: no pixel could be followed, or no pair read" if value is None else f"{value:.5g}"
            line(f"{title} {shown}" + (f" (reference {other:.5g})" if other is not None else ""))
    for found in protocols.values():
        for remark in found["remarks"]:
            line(f"{found['protocol']}: {remark}")
        if found["departures"]:
            line(f"{found['protocol']}: not as the protocol has it: {'; '.join(found['departures'])}")
    if len(protocols) > 1:
        line("figures of different protocols are on different scales and are not compared with each other")
    for name, reason in result["unavailable"].items():
        line(f"{name} unavailable: {reason}")
    count = result["protocol"]
    line(
        f"{count['generated_clips']} generated and {count['reference_clips']} reference clips of {count['frames']} frames "
        f"of {count['width']}x{count['height']} at {count['fps']:g} fps"
    )
    if outliers := result.get("outliers"):
        line("farthest from the reference: " + ", ".join(f"{each['clip']} ({each['score']:.2f})" for each in outliers))
    for what, left_out in result["left_out"].items():
        for key, title in (("unreadable", "cannot be read"), ("too_short", "too short")):
            if reasons := left_out[key]:
                line(f"{what}: {len(reasons)} of {left_out['videos']} videos {title}: {joined(reasons)}")


def _with_interval(found: Mapping[str, Any]) -> str:
    """A distance and half of its 95 % interval."""
    return f"{found['distance']:.4f} ± {found['high'] - found['distance']:.2g}"


def _number(value: float) -> float:
    """A number that JSON has: the largest for infinity."""
    return float(min(value, np.finfo(np.float64).max))
