"""A small video encoder of our own, for the Frechet distance where I3D's weights are not at hand.

It was trained to recognise how a clip moves, what is wrong with it, and in what light and colours it is
(`training/tiny/motion_encoder.py`), because features of an untrained network are blind to motion: for those, shuffled or
frozen frames are as good as real ones. Its distance is called FD-motion and never FVD: the two share the formula but not
the scale. Clips unlike all that it was trained on are told (`MotionEncoder.is_outside`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.clips import check_clips
from mobilevd.errors import UserError
from mobilevd.files import atomic_folder
from mobilevd.json_files import load_json
from mobilevd.pixels import to_float
from mobilevd.places import is_json_with, only_with_config
from mobilevd.shipped import SHIPPED

SHIPPED_FOLDER = SHIPPED / "assets" / "tiny" / "motion_encoder"
MOTION_ENCODER_FILES = only_with_config(is_json_with("feature_dim"), "config.json", "model.safetensors")
"""What is no motion encoder's, in a folder to write one to."""
MIN_FRAMES = 2  # with a single frame there is no motion to see


@dataclass(frozen=True)
class MotionEncoderConfig:
    """Settings of the network and of its training; `config.json` holds exactly these fields."""

    name: str = "motion-encoder-v2"
    height: int = 32  # clips of another size are resized to this one first
    width: int = 64
    num_frames: int = 8  # seen in training; other lengths work, as the features are pooled over time
    fps: float = 7.0  # seen in training: the same motion at another rate looks slower or faster
    channels: tuple[int, ...] = (24, 48, 64, 64)
    feature_dim: int = 32  # small, because a Frechet distance from n clips needs n well above it


class ConvBlock(nn.Module):
    """3x3x3 convolution, GroupNorm, SiLU.

    There are no running statistics, so a clip's features never depend on its batch. There is one group, so the ratio of
    fine to coarse detail survives, which reveals noise and blur.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels_out, 3, stride, padding=1)
        self.norm = nn.GroupNorm(1, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class MotionEncoder(nn.Module):
    """A map from clips (N, 3, T, H, W) in [-1, 1] to features (N, feature_dim), of mean variance 1 over real clips."""

    feature_mean: Tensor  # (D,)
    feature_map: Tensor  # (D, D), see `training.tiny.motion_encoder.balance`
    domain_mean: Tensor  # (D,), of the features of the clips of training
    domain_deviation: Tensor  # (D,)
    domain_limit: Tensor  # (), see `is_outside`

    def __init__(self, config: MotionEncoderConfig) -> None:
        super().__init__()
        self.config = config
        c0, c1, c2, c3 = config.channels
        self.blocks = nn.ModuleList(
            [
                ConvBlock(12, c0, (1, 2, 2)),  # 12 = 3 colours x 2x2 pixels; motion is seen before anything is pooled
                ConvBlock(c0, c1, (1, 1, 1)),
                ConvBlock(c1, c2, (2, 2, 2)),
                ConvBlock(c2, c3, (1, 1, 1)),
            ]
        )
        pooled = 2 * sum(config.channels)
        self.pool_norm = nn.LayerNorm(pooled)
        # Norms hide light and contrast from the blocks: each colour's mean and deviation come beside them.
        self.to_features = nn.Linear(pooled + 6, config.feature_dim)
        self.register_buffer("feature_mean", torch.zeros(config.feature_dim))
        self.register_buffer("feature_map", torch.eye(config.feature_dim))
        self.register_buffer("domain_mean", torch.zeros(config.feature_dim))
        self.register_buffer("domain_deviation", torch.ones(config.feature_dim))
        self.register_buffer("domain_limit", torch.tensor(float("inf")))

    def bounded_features(self, clips: Tensor) -> Tensor:
        """Features in (-1, 1) before they are balanced: the input of the training heads."""
        n, c, t, h, w = clips.shape
        # Pixel-unshuffle, written out for five dimensions: four pixels of each colour become channels.
        x = clips.reshape(n, c, t, h // 2, 2, w // 2, 2).permute(0, 1, 4, 6, 2, 3, 5)
        x = x.reshape(n, c * 4, t, h // 2, w // 2)
        pooled = []  # from every block: noise and softness are seen early, motion late
        for block in self.blocks:
            x = block(x)  # (N, C, T, H/4, W/4), from the third block on (N, C, T/2, H/8, W/8)
            spread = (x.var((2, 3, 4), correction=0) + 1e-6).sqrt()  # sqrt alone has an infinite slope at 0
            pooled += [x.mean((2, 3, 4)), spread]
        deviations = (clips.var((2, 3, 4), correction=0) + 1e-4).sqrt()
        light = torch.cat([2 * clips.mean((2, 3, 4)), 4 * deviations - 1], 1)  # both of about unit size
        return torch.tanh(self.to_features(torch.cat([self.pool_norm(torch.cat(pooled, 1)), light], 1)))  # bounded

    def forward(self, clips: Tensor) -> Tensor:
        return (self.bounded_features(clips) - self.feature_mean) @ self.feature_map

    def strangeness(self, features: Tensor) -> Tensor:
        """How far features (N, D) lie from those of training's clips, whose mean is 1: (N,), mean squares of deviations."""
        return ((features - self.domain_mean) / self.domain_deviation).square().mean(1)

    def is_outside(self, features: Tensor) -> Tensor:
        """Which clips are stranger than 999 of 1000 clips of training, damaged ones included: bool (N,)."""
        return self.strangeness(features) > self.domain_limit

    def save(self, folder: Path | str) -> None:
        """Write `model.safetensors` and `config.json`; the folder appears whole or not at all."""
        with atomic_folder(folder, MOTION_ENCODER_FILES) as temporary:
            tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
            safetensors.torch.save_file(tensors, str(temporary / "model.safetensors"))
            (temporary / "config.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path | str) -> MotionEncoder:
        """Read what `save` wrote; raises UserError if a file is missing or was not written by it."""
        folder = Path(folder)
        for file in ("config.json", "model.safetensors"):
            if not (folder / file).is_file():
                raise UserError(
                    f"{folder / file}: not found; a motion encoder folder holds config.json and model.safetensors "
                    "(make one with `python -m training.tiny.motion_encoder --out FOLDER`)"
                )
        try:
            fields = load_json(folder / "config.json")
            encoder = cls(MotionEncoderConfig(**{**fields, "channels": tuple(fields["channels"])}))
            encoder.load_state_dict(safetensors.torch.load_file(str(folder / "model.safetensors")))
        except (KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
            raise UserError(f"{folder}: not a motion encoder that this version can read: {error}") from error
        return encoder.eval()


def to_model_input(clips: np.ndarray, height: int, width: int) -> Tensor:
    """Map uint8 (N, T, H, W, 3) to float (N, 3, T, height, width) in [-1, 1]; bilinear, antialiased if sizes differ."""
    x = to_float(torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 1, 4, 2, 3))  # (N, T, 3, H, W)
    if x.shape[-2:] != (height, width):
        frames = F.interpolate(x.flatten(0, 1), size=(height, width), mode="bilinear", antialias=True)
        x = frames.reshape(*x.shape[:3], height, width)
    return x.transpose(1, 2).contiguous()


class MotionEncoderExtractor:
    """`MotionEncoder` as a feature extractor (see `eval.features.FeatureExtractor`)."""

    distance_name = "FD-motion"
    ddof = 1

    def __init__(self, encoder: MotionEncoder, device: torch.device | str = "cpu", batch_size: int = 32) -> None:
        self.encoder = encoder.eval().to(device)
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.name = encoder.config.name

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self.encoder.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def protocol(self) -> dict[str, Any]:
        config = self.encoder.config
        return {
            "extractor": self.name,
            "feature_dim": config.feature_dim,
            "input_size": [config.height, config.width],
            "resize": "bilinear, antialiased",
            "trained_for_frames": config.num_frames,
            "trained_for_fps": config.fps,
        }

    @torch.inference_mode()
    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """Map uint8 (N, T, H, W, 3) to float64 (N, feature_dim); UserError for another form or a single frame."""
        check_clips(clips, min_frames=MIN_FRAMES)
        config = self.encoder.config
        parts = []
        for start in range(0, len(clips), self.batch_size):
            x = to_model_input(clips[start : start + self.batch_size], config.height, config.width)
            parts.append(self.encoder(x.to(self.device)).double().cpu().numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def is_outside(self, features: np.ndarray) -> np.ndarray:
        """Which clips, by features (N, D), are unlike those of training (`MotionEncoder.is_outside`): bool (N,)."""
        return self.encoder.is_outside(torch.from_numpy(features).float().to(self.device)).cpu().numpy()
