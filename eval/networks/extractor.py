"""A network with its preprocessing as a feature extractor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eval.clips import check_clips
from eval.preprocessing import Preprocessing
from mobilevd.errors import UserError


@dataclass(frozen=True)
class NetworkFacts:
    """What is to be known of a network to use it as an extractor.

    Attributes:
        name: of the network and its weights, printed beside the number.
        feature_dim: features of a clip.
        min_frames: fewer leave it nothing to pool.
        frames: the only number of frames that it takes, if there is one.
        batch_size: clips at a time at most; its activations are large.
    """

    name: str
    feature_dim: int
    min_frames: int
    batch_size: int
    frames: int | None = None


class NetworkExtractor:
    """A module that maps preprocessed clips to features, as `eval.features.FeatureExtractor`."""

    def __init__(
        self,
        network: nn.Module,
        facts: NetworkFacts,
        preprocessing: Preprocessing,
        *,
        distance_name: str,
        files: Sequence[Path],
        sha256: Sequence[str],
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.facts = facts
        self.preprocessing = preprocessing
        self.name = facts.name
        self.distance_name = distance_name
        self.ddof = 0
        self.files = list(files)
        self.sha256 = "+".join(sha256)
        self.device = torch.device(device)
        self.batch_size = min(batch_size or facts.batch_size, facts.batch_size)

    @property
    def protocol(self) -> dict[str, Any]:
        return {
            "extractor": self.name,
            "file": ", ".join(file.name for file in self.files),
            "sha256": self.sha256,
            "feature_dim": self.facts.feature_dim,
            **self.preprocessing.record,
        }

    @torch.inference_mode()
    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """Map uint8 (N, T, H, W, 3) to float64 (N, feature_dim). UserError for another form or number of frames."""
        check_clips(clips, min_frames=self.facts.min_frames, what=f"clips for {self.name}")
        if self.facts.frames not in (None, clips.shape[1]):
            raise UserError(f"{self.name} takes clips of {self.facts.frames} frames, got {clips.shape[1]}")
        parts = []
        for start in range(0, len(clips), self.batch_size):
            x = self.preprocessing(clips[start : start + self.batch_size], self.device)  # (n, 3, T, H, W)
            features = self.network(x)
            if features.shape != (len(x), self.facts.feature_dim):
                got, due = tuple(features.shape), (len(x), self.facts.feature_dim)
                raise UserError(f"{self.name}: gave features {got} for frames of {tuple(x.shape[-2:])}, {due} are due")
            parts.append(features.double().cpu().numpy())
        return np.concatenate(parts)
