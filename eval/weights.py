"""The published weights of the networks that distances are made with: names, places, hashes. None is shipped here.

A hash is given where a public source states it; None means that none is known, and what a user gives is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobilevd.errors import UserError
from mobilevd.files import sha256_file

TRUST_OPTION = "--trust-torchscript"


@dataclass(frozen=True)
class WeightFile:
    """One published file.

    Attributes:
        name: what it is called here.
        file_name: what its publisher calls it.
        url: a place that gave it when this was written; downloaded only when a user asks.
        sha256: of the published file, or None where no public source states it.
        size_bytes: of the published file, or None.
        source: who published it, for messages.
    """

    name: str
    file_name: str
    url: str
    sha256: str | None
    size_bytes: int | None
    source: str


WEIGHTS = {
    file.name: file
    for file in (
        WeightFile(
            "i3d-torchscript",
            "i3d_torchscript.pt",
            "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
            "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
            51_235_320,
            "the detector of the StyleGAN-V FVD code (github.com/universome/stylegan-v)",
        ),
        WeightFile(
            "i3d",
            "i3d_pretrained_400.pt",
            "https://github.com/songweige/TATS/raw/main/tats/fvd/i3d_pretrained_400.pt",
            # Stated by the Git-LFS pointer of the copy in Open-Sora-Plan v1.0.0.
            "55095f049e706479d48e221adcdb145b2b9dc930ba28b081ed72367ffaa32343",
            50_939_526,
            "the TensorFlow Hub module i3d-kinetics-400 as VideoGPT converted it (github.com/wilson1yan/VideoGPT)",
        ),
        WeightFile(
            "videomae-v2-giant-ssv2",
            "vit_g_hybrid_pt_1200e_ssv2_ft.pth",
            "https://huggingface.co/OpenGVLab/InternVideoMAE_models/resolve/main/mae-g/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
            "5a210a92f035dff30c53b46157b612e7a1a5d3c99700e1b2d71da5c399ca7e70",
            2_023_804_201,
            "VideoMAE V2 ViT-g, finetuned on Something-Something V2 (github.com/OpenGVLab/VideoMAEv2)",
        ),
        WeightFile(
            "v-jepa-huge",
            "vith16.pth.tar",
            "https://dl.fbaipublicfiles.com/jepa/vith16/vith16.pth.tar",
            None,
            None,
            "V-JEPA ViT-H/16 (github.com/facebookresearch/jepa)",
        ),
        WeightFile(
            "v-jepa-huge-ssv2-probe",
            "ssv2-probe.pth.tar",
            "https://dl.fbaipublicfiles.com/jepa/vith16/ssv2-probe.pth.tar",
            None,
            None,
            "the attentive probe of V-JEPA ViT-H/16 on Something-Something V2 (github.com/facebookresearch/jepa)",
        ),
    )
}

NETWORK_FILES: dict[str, tuple[str, ...]] = {
    "i3d-torchscript": ("i3d-torchscript",),
    "i3d": ("i3d",),
    "videomae-v2-giant-ssv2": ("videomae-v2-giant-ssv2",),
    "v-jepa-huge-ssv2": ("v-jepa-huge", "v-jepa-huge-ssv2-probe"),
    "motion-encoder": (),  # shipped, as a folder of its own
}
"""The files of each network of a protocol, the network's own first."""


def find_weights(network: str, place: Path | str | None) -> list[Path]:
    """The files of a network: `place` is the first of them, or a folder that holds all by their published names.

    Raises UserError that says which file is missing and who publishes it.
    """
    wanted = [WEIGHTS[name] for name in NETWORK_FILES[network]]
    place = Path(place).expanduser() if place else Path()
    folder = place if place.is_dir() else place.parent
    files = [folder / weights.file_name for weights in wanted]
    if not place.is_dir():
        files[0] = place
    for file, weights in zip(files, wanted, strict=True):
        if not file.is_file():
            raise UserError(
                f"{file}: not found; {network} needs {weights.file_name}, not shipped here: {weights.source}"
            )
    return files


def check_hash(file: Path, weights: WeightFile, trusted: str | None = None) -> str:
    """The SHA-256 of a file. UserError if the published file has another, and `trusted` does not name this one."""
    sha256 = sha256_file(file)
    if weights.sha256 is None or sha256 in (weights.sha256, (trusted or "").lower()):
        return sha256
    raise UserError(
        f"{file}: not the published {weights.file_name} (SHA-256 {sha256}, published: {weights.sha256}; "
        f"{weights.source}). If you mean these weights: {TRUST_OPTION} {sha256}"
    )
