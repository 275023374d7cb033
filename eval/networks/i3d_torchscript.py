"""I3D trained on Kinetics-400, as TorchScript: the network that defines FVD, the only distance of that name here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.clips import check_clips
from eval.preprocessing import Preprocessing
from eval.weights import TRUST_OPTION, WEIGHTS
from mobilevd.errors import UserError
from mobilevd.files import sha256_file

PUBLISHED = WEIGHTS["i3d-torchscript"]
DEFAULT_FILE = PUBLISHED.file_name
WHERE = f"it is {PUBLISHED.source}, not shipped here"
FEATURE_DIM = 400  # the logits over Kinetics-400's classes
# I3D strides time by 8 and pools two steps at its end: fewer than 9 frames leave nothing to pool. FVD codes ask for 10.
MIN_FRAMES = 10


BY_THE_FILE = Preprocessing("network", None, "bytes")


class I3DExtractor:
    """`i3d_torchscript.pt` as a feature extractor (see `eval.features.FeatureExtractor`).

    By default the file itself resizes to 224x224 and scales to [-1, 1]; its input is 0..255, and its options ask for both
    (the convention of the StyleGAN-V implementation of FVD, which gives the published figures of recent video models).
    Another preprocessing does either of them before the file sees the clips.

    TorchScript is code that runs when it is loaded, so only the published file is loaded, or one whose SHA-256 the user
    gave as `trusted`; never on the word of a configuration, which may come from anywhere.
    """

    distance_name = "FVD"
    ddof = 0  # as StyleGAN-V has it

    def __init__(
        self,
        file: Path | str,
        device: torch.device | str = "cpu",
        batch_size: int = 8,
        trusted: str | None = None,
        preprocessing: Preprocessing = BY_THE_FILE,
    ) -> None:
        file = Path(file)
        if not file.is_file():
            raise UserError(f"{file}: not found, so FVD is unavailable; give i3d:FILE with {DEFAULT_FILE} ({WHERE})")
        self.sha256 = sha256_file(file)
        if self.sha256 not in (PUBLISHED.sha256, (trusted or "").lower()):
            raise UserError(
                f"{file}: not the published file ({WHERE}), and TorchScript is code that runs when it is loaded. If you "
                f"trust its author: {TRUST_OPTION} {self.sha256}"
            )
        try:
            self.model = torch.jit.load(str(file), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().split("\n")[-1]
            raise UserError(f"{file}: not a TorchScript file, so FVD is unavailable; {WHERE}: {reason}") from error
        self.file = file
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.preprocessing = preprocessing
        self.name = "i3d-kinetics400-torchscript"

    @property
    def protocol(self) -> dict[str, Any]:
        by_the_file = {
            "input_size": [224, 224],
            "resize": "the TorchScript file's own (resize=True, rescale=True)",
        }
        return {
            "extractor": self.name,
            "file": self.file.name,
            "sha256": self.sha256,
            "feature_dim": FEATURE_DIM,
            **(by_the_file if self.preprocessing == BY_THE_FILE else self.preprocessing.record),
        }

    @torch.inference_mode()
    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """Map uint8 (N, T, H, W, 3) to float64 (N, 400). Raises UserError for another form or too few frames."""
        check_clips(clips, min_frames=MIN_FRAMES, what="clips for I3D")
        parts = []
        for start in range(0, len(clips), self.batch_size):
            x = self.preprocessing(clips[start : start + self.batch_size], self.device)  # (N, 3, T, H, W)
            rescale, resize = self.preprocessing.value_range == "bytes", self.preprocessing.resize == "network"
            features = self.model(x, rescale=rescale, resize=resize, return_features=True)
            if features.shape != (len(x), FEATURE_DIM):
                got, due = tuple(features.shape), (len(x), FEATURE_DIM)
                raise UserError(f"{self.file}: gave features {got} where I3D gives {due}; {WHERE}")
            parts.append(features.double().cpu().numpy())
        return np.concatenate(parts)
