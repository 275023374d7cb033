"""What `mobilevd doctor` says of weights: which are there, where the others are looked for, and what their lack costs."""

from __future__ import annotations

from pathlib import Path

from eval.motion_encoder import SHIPPED_FOLDER
from eval.perceptual import find_backbone, why_unavailable
from eval.protocol_settings import load_protocol, protocol_names
from eval.weights import NETWORK_FILES, WEIGHTS, WeightFile
from mobilevd.commands.finding import Finding, looked_for
from mobilevd.config import load_config
from mobilevd.errors import UserError
from mobilevd.model.model_place import model_folder
from mobilevd.shipped import SHIPPED

LOOKED_IN = (Path("weights"), Path())
"""Where networks of distances are looked for: where `mobilevd weights NAME` puts them, and the current folder."""
OF_SVD = "configs/mobilevd.yaml"
"""The configuration whose checkpoint is looked for: that of the paper's recipe."""


def weight_findings() -> list[Finding]:
    """A finding for each set of weights that some command can use."""
    return [
        looked_for("tiny models", _find_tiny, "no tiny run (configs/tiny.yaml); install mobilevd anew", needed=True),
        looked_for(
            "motion encoder", lambda: _there(SHIPPED_FOLDER), "no FD-motion; install mobilevd anew", needed=True
        ),
        *_checkpoint_findings(),
        *map(_network_finding, WEIGHTS.values()),
        looked_for(
            "LPIPS, AlexNet", _find_alexnet, "no lpips in `mobilevd evaluate`; another place: --lpips-weights FILE"
        ),
    ]


def _find_tiny() -> Path:
    for part in ("base", "codec"):
        _there(SHIPPED / "assets" / "tiny" / part)
    return SHIPPED / "assets" / "tiny"


def _checkpoint_findings() -> list[Finding]:
    """Of Stable Video Diffusion's parts, where the paper's recipe looks for them."""
    base = load_config(SHIPPED / OF_SVD).base

    def told(key: str, place: Path) -> str:
        return f"{place} ({key} of {OF_SVD})"

    without = "tiny runs bring their own"
    return [
        looked_for(
            "SVD, UNet",
            lambda: told("base.model", model_folder(base.model)),
            f"no run from SVD; another place: base.model=FOLDER; {without}",
        ),
        looked_for(
            "SVD, VAE",
            lambda: told("base.codec", _there(base.codec / "vae", "base.codec")),
            f"no latents of SVD's kind; another place: base.codec=FOLDER; {without}",
        ),
        looked_for(
            "SVD, CLIP",
            lambda: told("base.codec", _there(base.codec / "image_encoder", "base.codec")),
            f"no image embeddings of SVD's kind; another place: base.codec=FOLDER; {without}",
        ),
    ]


def _there(place: Path, key: str = "") -> Path:
    if not place.is_dir():
        raise UserError(f"{place}: not there" + (f" ({key} of {OF_SVD})" if key else ""))
    return place


def _network_finding(weights: WeightFile) -> Finding:
    """Of a network of distances; its size is compared with the published one, its hash when it is used."""
    protocols = [name for name in protocol_names() if weights.name in NETWORK_FILES[load_protocol(name).network]]
    size = f" ({weights.size_bytes / 1e6:,.0f} MB)" if weights.size_bytes else ""
    cost = f"no distance by {', '.join(protocols)}; `mobilevd weights {weights.name}` fetches it{size}"
    return looked_for(weights.name, lambda: _find_network(weights), cost)


def _find_network(weights: WeightFile) -> str:
    places = [folder / weights.file_name for folder in LOOKED_IN]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(f"not at {' or '.join(map(str, places))}")
    size = file.stat().st_size
    if weights.size_bytes not in (None, size):
        raise UserError(f"{file}: has {size:,} bytes, the published file {weights.size_bytes:,}")
    return str(file)


def _find_alexnet() -> str:
    if (reason := why_unavailable()) is not None:
        raise UserError(reason)
    return str(find_backbone())
