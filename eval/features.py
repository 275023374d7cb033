"""The contract of feature extractors, which turn clips into vectors for the Frechet distance; and their loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eval.protocol_settings import FrechetSettings, ProtocolSettings, load_protocol, protocol_names
from mobilevd.errors import UserError


class FeatureExtractor(Protocol):
    """A map from clips to feature vectors; a distance is comparable only within one extractor and protocol."""

    name: str  # name of the network and its weights, as printed beside the number
    distance_name: str  # name of the Frechet distance on these features; "FVD" is I3D's alone
    ddof: int  # covariances are over n - ddof clips

    @property
    def sha256(self) -> str:
        """SHA-256 of the network's weights: features of others are others, whatever their name."""
        ...

    @property
    def protocol(self) -> dict[str, Any]:
        """Everything about the extractor that changes the number: input size, resizing, feature dimension, ..."""
        ...

    def __call__(self, clips: np.ndarray, /) -> np.ndarray:
        """Map uint8 clips (N, T, H, W, 3) to float features (N, D)."""
        ...


def load_extractor(
    spec: str = "motion", *, device: str = "cpu", batch_size: int = 32, trusted: str | None = None
) -> FeatureExtractor:
    """Load the extractor that `spec` names.

    "motion" is the encoder shipped with this project, "motion:FOLDER" another one of its kind; "i3d:FILE" is the I3D
    TorchScript file of the protocol stylegan-v, "PROTOCOL:FILE" the network of another protocol (`eval.protocol_settings`)
    whose distance is a Frechet distance. Another file than the published one is loaded only if `trusted` is its SHA-256.

    Raises UserError for an unknown name, a missing file or one that is not trusted.
    """
    kind, _, place = spec.partition(":")
    if kind == "motion":
        from eval.motion_encoder import SHIPPED_FOLDER, MotionEncoder, MotionEncoderExtractor

        encoder = MotionEncoder.load(Path(place).expanduser() if place else SHIPPED_FOLDER)
        return MotionEncoderExtractor(encoder, device=device, batch_size=batch_size)
    if kind == "i3d":
        from eval.networks.i3d_torchscript import DEFAULT_FILE, I3DExtractor

        # I3D at 224x224 takes 3.5 GB of activations for 32 clips of 16 frames; 8 clips take a quarter of that.
        file = Path(place).expanduser() if place else Path(DEFAULT_FILE)
        return I3DExtractor(file, device=device, batch_size=min(batch_size, 8), trusted=trusted)
    if kind in protocol_names():
        settings = load_protocol(kind)
        if not isinstance(settings.distance, FrechetSettings):
            raise UserError(
                f"feature extractor {spec!r}: {kind} is no Frechet distance; give it to evaluate --protocol"
            )
        return load_protocol_extractor(settings, place or None, device=device, batch_size=batch_size, trusted=trusted)
    known = ", ".join(name for name in protocol_names() if name != "motion")
    raise UserError(f"feature extractor {spec!r}: unknown; use motion, motion:FOLDER, i3d:FILE or NAME:FILE of {known}")


def load_protocol_extractor(
    settings: ProtocolSettings,
    weights: Path | str | None = None,
    *,
    device: str = "cpu",
    batch_size: int = 32,
    trusted: str | None = None,
) -> FeatureExtractor:
    """Load the network of a protocol, with its preprocessing, as an extractor.

    `weights` is the network's file, or a folder that holds its files by their published names (`eval.weights`); for the
    motion encoder a folder of its kind, or None for the one that is shipped. Weights of another hash than the published
    are loaded only if `trusted` is their SHA-256.

    Raises UserError for a file that is missing, not trusted, or of another network.
    """
    extractor = _load_network(settings, weights, device, batch_size, trusted)
    if isinstance(settings.distance, FrechetSettings):
        extractor.ddof = settings.distance.ddof
    return extractor


def _load_network(
    settings: ProtocolSettings, weights: Path | str | None, device: str, batch_size: int, trusted: str | None
) -> FeatureExtractor:
    if settings.network == "motion-encoder":
        return load_extractor(f"motion:{weights}" if weights else "motion", device=device, batch_size=batch_size)
    from eval.networks.i3d import load_i3d
    from eval.networks.i3d_torchscript import I3DExtractor
    from eval.networks.videomae import load_videomae
    from eval.networks.vjepa import load_vjepa
    from eval.preprocessing import Preprocessing
    from eval.weights import find_weights

    files = find_weights(settings.network, weights)
    preprocessing = Preprocessing.of(settings)
    if settings.network == "i3d-torchscript":
        return I3DExtractor(files[0], device, min(batch_size, 8), trusted, preprocessing)
    load = {"i3d": load_i3d, "videomae-v2-giant-ssv2": load_videomae, "v-jepa-huge-ssv2": load_vjepa}[settings.network]
    return load(
        *files,
        preprocessing=preprocessing,
        distance_name=settings.distance_name,
        device=device,
        batch_size=batch_size,
        trusted=trusted,
    )
