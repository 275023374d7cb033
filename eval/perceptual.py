"""LPIPS between clips, if the weights of its backbone are at hand; they are never downloaded here."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from eval.clips import check_clips
from mobilevd.errors import UserError
from mobilevd.pixels import to_float

# AlexNet as torchvision publishes it (IMAGENET1K_V1); LPIPS's own linear layers come with the lpips package.
BACKBONE_FILE = "alexnet-owt-7be5be79.pth"
MIN_SIZE = 32  # AlexNet's strides and poolings leave nothing of smaller frames


@dataclass(frozen=True)
class PerceptualDistance:
    """A number, or the reason why there is none."""

    value: float | None
    unavailable: str | None = None


def find_backbone(path: Path | str | None = None) -> Path | None:
    """The backbone's file: `path` if it exists, else the one in torch hub's cache, else None."""
    file = Path(path) if path is not None else Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_FILE
    return file if file.is_file() else None


def build_lpips(backbone: Path | str | None, seed: int = 0) -> nn.Module:
    """LPIPS with AlexNet weights from `backbone`; None gives random weights, only for testing the arithmetic.

    Raises UserError if the file does not hold torchvision's AlexNet.
    """
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # lpips calls torchvision by deprecated argument names
        torch.manual_seed(seed)
        # pnet_rand keeps lpips from downloading the backbone; its weights are loaded below.
        metric = lpips.LPIPS(net="alex", pnet_rand=True, pretrained=backbone is not None, verbose=False)
        if backbone is None:
            for layer in metric.lins:  # trained weights are non-negative, or it would be no distance
                for weight in layer.parameters():
                    weight.data.abs_()
    if backbone is not None:
        _load_backbone(metric.net, Path(backbone))
    return metric.eval().requires_grad_(False)


def _load_backbone(net: nn.Module, file: Path) -> None:
    """Put torchvision's `features.N.*` tensors into lpips's slices, which keep the numbers N as names."""
    try:
        weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        own = net.state_dict()  # names such as slice2.3.weight
        net.load_state_dict({name: weights["features." + name.split(".", 1)[1]] for name in own})
    except Exception as error:
        raise UserError(f"{file}: not torchvision's AlexNet weights ({BACKBONE_FILE}): {error!r}"[:400]) from error


@torch.inference_mode()
def lpips_distance(metric: nn.Module, a: np.ndarray, b: np.ndarray, batch_size: int = 64) -> float:
    """Mean LPIPS over all frames of two sets of uint8 clips (N, T, H, W, 3), frame by frame."""
    check_clips(a, what="LPIPS")
    check_clips(b, what="LPIPS")
    if a.shape != b.shape or min(a.shape[2:4]) < MIN_SIZE:
        raise UserError(
            f"LPIPS: clips of one shape with frames of at least {MIN_SIZE} pixels, got {a.shape} and {b.shape}"
        )
    total, (n, t, h, w, _) = 0.0, a.shape
    device = next(iter(metric.parameters())).device
    flat = [x.reshape(n * t, h, w, 3) for x in (a, b)]
    for start in range(0, n * t, batch_size):
        x, y = (to_float(torch.from_numpy(f[start : start + batch_size]).permute(0, 3, 1, 2).to(device)) for f in flat)
        total += float(metric(x, y).double().sum())
    return total / (n * t)


def why_unavailable(backbone: Path | str | None = None) -> str | None:
    """The reason why there is no LPIPS here; None if there is."""
    if find_backbone(backbone) is not None:
        return None
    wanted = backbone if backbone is not None else Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_FILE
    return f"AlexNet weights for LPIPS not found at {wanted}"


def perceptual_distance(a: np.ndarray, b: np.ndarray, backbone: Path | str | None = None) -> PerceptualDistance:
    """Mean LPIPS (AlexNet) between clips a and b, or an unavailable figure with the reason."""
    if (reason := why_unavailable(backbone)) is not None:
        return PerceptualDistance(None, reason)
    return PerceptualDistance(lpips_distance(build_lpips(find_backbone(backbone)), a, b))
