"""The figures of one clip that `mobilevd evaluate` was asked for, by itself or against the reference's clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from eval.figures import clip_values
from eval.frames.flicker import flicker
from eval.frames.flow import MIN_SIZE, clip_flow
from eval.frames.psnr import clip_psnr
from eval.frames.ssim import WINDOW, clip_ssim
from eval.frames.warping import warping_error
from eval.perceptual import MIN_SIZE as MIN_LPIPS_SIZE
from eval.perceptual import build_lpips, find_backbone, lpips_distance, why_unavailable
from mobilevd.commands.evaluate_clips import ClipForm
from mobilevd.commands.evaluate_settings import PAIRED, EvaluateSettings

OF_A_CLIP = ("motion", "warping", "flicker")
"""Metrics that a clip has without another."""
PairFigure = Callable[[np.ndarray, np.ndarray], float]
ALONG_THE_FLOW = {"warping": ("warping_error", warping_error), "flicker": ("flicker", flicker)}


@dataclass
class ClipFigures:
    """What is measured of a clip, and why something is not.

    Attributes:
        metrics: of `METRICS`, those of single clips.
        pair_figures: key -> function of a clip and its reference.
        paired: the flow is the reference's.
    """

    metrics: tuple[str, ...]
    pair_figures: dict[str, PairFigure] = field(default_factory=dict)
    paired: bool = False
    unavailable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: EvaluateSettings, form: ClipForm, device: str, why_unpaired: str) -> ClipFigures:
        """The figures of these settings; `why_unpaired` is empty if clips are paired."""
        figures, smallest = cls(settings.metrics, paired=not why_unpaired), min(form.height, form.width)
        wanted: dict[str, tuple[str, int, PairFigure]] = {
            "psnr": ("psnr_db", 1, clip_psnr),
            "ssim": ("ssim", WINDOW, clip_ssim),
        }
        for name in set(settings.metrics) & set(PAIRED):
            if why_unpaired:
                figures.unavailable[name] = why_unpaired
            elif name == "lpips":
                reason = why_unavailable(settings.lpips_weights)
                if smallest < MIN_LPIPS_SIZE:
                    reason = f"frames of at least {MIN_LPIPS_SIZE} pixels a side are needed"
                if reason is not None:
                    figures.unavailable[name] = reason
                else:
                    network: Any = build_lpips(find_backbone(settings.lpips_weights)).to(device)
                    figures.pair_figures[name] = partial(_lpips, network)
            else:
                key, least, function = wanted[name]
                if smallest < least:
                    figures.unavailable[name] = f"frames of at least {least} pixels a side are needed"
                else:
                    figures.pair_figures[key] = function
        for name in set(settings.metrics) & set(ALONG_THE_FLOW):
            if smallest < MIN_SIZE:
                figures.unavailable[name] = f"frames of at least {MIN_SIZE} pixels a side are needed"
        return figures

    @property
    def names(self) -> list[str]:
        """What decides the values: kept ones are of the same names."""
        own = [name for name in self.metrics if name in OF_A_CLIP and name not in self.unavailable]
        return sorted([*own, *self.pair_figures, *(["paired"] if self.paired else [])])

    @property
    def needs_pairs(self) -> bool:
        return bool(self.pair_figures) or (self.paired and bool(self._flow_figures()))

    def of_clip(self, clip: np.ndarray, reference: np.ndarray | None = None) -> dict[str, float]:
        """All figures of a uint8 clip (T, H, W, 3); NaN where one is wanted and there is none.

        Along the flow of the reference where there is one; the reference's own error along it then stands beside, as
        `reference_...`.
        """
        values: dict[str, float] = {}
        if "motion" in self.metrics:
            values |= {key: float(value[0]) for key, value in clip_values(clip[None]).items()}
        for key, function in self.pair_figures.items():
            values[key] = float("nan") if reference is None else function(clip, reference)
        if flow_figures := self._flow_figures():
            flow = clip_flow(clip if reference is None else reference)
            for key, figure in flow_figures:
                values[key] = figure(clip, flow)
                if self.paired:
                    values[f"reference_{key}"] = float("nan") if reference is None else figure(reference, flow)
        return values

    def alone(self) -> ClipFigures:
        """The figures of the reference's clips: without pairs; along the flow only where the generated ones are, too."""
        along = () if self.paired else tuple(ALONG_THE_FLOW)
        metrics = tuple(name for name in self.metrics if name in ("motion", *along))
        return ClipFigures(metrics, {}, False, dict(self.unavailable))

    def _flow_figures(self) -> list[tuple[str, Callable[..., float]]]:
        return [
            ALONG_THE_FLOW[name] for name in self.metrics if name in ALONG_THE_FLOW and name not in self.unavailable
        ]


def _lpips(network: Any, clip: np.ndarray, reference: np.ndarray) -> float:
    return lpips_distance(network, clip[None], reference[None], batch_size=16)
