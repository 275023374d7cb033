"""The image network of the frames' Frechet distance: a file of the user's; none is shipped or downloaded.

FILE.pt                      TorchScript: uint8 images (N, 3, H, W) -> features (N, D); it scales and resizes by itself.
                             With an argument `return_features`, as StyleGAN2-ADA's inception-2015-12-05.pt has it, it
                             is called with True.
torchvision:NAME:FILE        weights of a torchvision classifier (safetensors, or .pth of tensors alone): its features
                             are what its last linear layer gets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilevd.errors import UserError
from mobilevd.files import sha256_file

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, of R, G, B in [0, 1]
FULL_NAME = "inception-2015-12-05.pt, StyleGAN2-ADA's, gives the FID of the literature"


class TorchvisionFeatures(nn.Module):
    """Uint8 images (N, 3, H, W) -> inputs of the classifier's last linear layer (N, D)."""

    def __init__(self, classifier: nn.Module, size: int) -> None:
        super().__init__()
        self.classifier, self.size = classifier, size
        self.seen: Tensor | None = None
        last = [module for module in classifier.modules() if isinstance(module, nn.Linear)][-1]
        last.register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.seen = inputs[0]

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images.float() / 255, size=(self.size,) * 2, mode="bilinear", antialias=True)
        mean, deviation = (x.new_tensor(c).reshape(1, 3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_DEVIATION))
        self.classifier((x - mean) / deviation)
        assert self.seen is not None
        return self.seen.flatten(1)


class FrameNetwork:
    """An image network: uint8 frames (N, H, W, 3) -> float64 features (N, D)."""

    def __init__(self, name: str, sha256: str, model: Any, device: str, batch_size: int, **arguments: bool) -> None:
        self.name, self.sha256 = name, sha256
        self.model, self.device, self.batch_size, self.arguments = model, torch.device(device), batch_size, arguments

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(frames), self.batch_size):
            batch = np.ascontiguousarray(frames[start : start + self.batch_size])
            images = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().to(self.device)
            features = self.model(images, **self.arguments)
            if not isinstance(features, Tensor) or features.ndim < 2 or features.shape[0] != len(batch):
                raise UserError(f"{self.name}: gives no features (N, D) for {len(batch)} images")
            parts.append(features.flatten(1).double().cpu().numpy())
        return np.concatenate(parts)


def load_frame_network(
    spec: str, *, device: str = "cpu", batch_size: int = 32, trusted: str | None = None
) -> FrameNetwork:
    """The network that `spec` names, as in this file's head.

    TorchScript is code that runs when it is loaded: only a file whose SHA-256 is `trusted` is. UserError for anything that
    cannot be loaded.
    """
    if spec.startswith("torchvision:"):
        _, name, place = [*spec.split(":", 2), "", ""][:3]
        return _of_torchvision(name, _file(place), device, batch_size)
    file = _file(spec)
    sha256 = sha256_file(file)
    if sha256 != (trusted or "").lower():
        raise UserError(
            f"{file}: TorchScript is code that runs when loaded. If you trust its author: --trust-fid-network {sha256}"
        )
    try:
        model = torch.jit.load(str(file), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{file}: not a TorchScript file ({reason}); {FULL_NAME}") from None
    takes = {argument.name for argument in model.forward.schema.arguments}  # type: ignore[union-attr]
    arguments = {"return_features": True} if "return_features" in takes else {}
    return FrameNetwork(file.name, sha256, model, device, batch_size, **arguments)


def _file(place: str) -> Path:
    file = Path(place).expanduser()
    if not file.is_file():
        raise UserError(f"--fid-network {place}: no such file ({FULL_NAME}), or torchvision:NAME:FILE")
    return file


def _of_torchvision(name: str, file: Path, device: str, batch_size: int) -> FrameNetwork:
    from torchvision import models

    if name not in (known := models.list_models(module=models)):
        raise UserError(
            f"torchvision:{name}: no image classifier of torchvision's; such as {', '.join(known[:3])}, resnet50"
        )
    options: dict[str, Any] = (
        {"aux_logits": True, "init_weights": False} if name in ("inception_v3", "googlenet") else {}
    )
    classifier = models.get_model(name, weights=None, **options)
    try:
        if file.suffix == ".safetensors":
            weights = safetensors.torch.load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
        classifier.load_state_dict(weights)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file}: not the weights of torchvision's {name} ({reason})") from None
    model = TorchvisionFeatures(classifier.eval(), 299 if name == "inception_v3" else 224).to(device)
    return FrameNetwork(f"torchvision {name}", sha256_file(file), model, device, batch_size)
