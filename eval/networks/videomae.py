"""VideoMAE V2's ViT-g, finetuned on Something-Something V2, as content-debiased FVD uses it (Ge et al., CVPR 2024).

`transformers`' VideoMAEModel can express the same encoder (hidden size 1408, 40 layers, 16 heads, MLP 6144, patches of
14), under other names and without the norm after the mean with its epsilon of 1e-6; here the names are those of the
published file, which so loads strictly. The tests compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from eval.networks.extractor import NetworkExtractor, NetworkFacts
from eval.networks.state_files import load_strictly, read_state
from eval.networks.video_transformer import NORM_EPSILON, TokenBlock, TubeletEmbedding
from eval.preprocessing import Preprocessing
from eval.weights import WEIGHTS, check_hash


@dataclass(frozen=True)
class VideoMaeSize:
    """Size of the network; the defaults are ViT-g's (Wang et al. 2023, VideoMAE V2)."""

    dim: int = 1408
    depth: int = 40
    heads: int = 16
    hidden: int = 6144  # 1408 * 48 / 11
    patch: int = 14
    tubelet: int = 2
    frames: int = 16
    side: int = 224
    classes: int = 174


def sinusoid_positions(count: int, dim: int) -> Tensor:
    """Fixed position embeddings (1, count, dim): sine and cosine in turn (Vaswani et al. 2017, section 3.5)."""
    place = torch.arange(count, dtype=torch.float64)[:, None]
    channel = torch.arange(dim, dtype=torch.float64)
    angle = place / 10000 ** (2 * torch.div(channel, 2, rounding_mode="floor") / dim)  # (count, dim)
    even = torch.arange(dim) % 2 == 0
    return torch.where(even, angle.sin(), angle.cos()).float()[None]


class VideoMae(nn.Module):
    """A map from clips (N, 3, 16, 224, 224) in [0, 1] to features (N, 1408): the norm of the mean over all tokens."""

    positions: Tensor

    def __init__(self, size: VideoMaeSize = VideoMaeSize()) -> None:  # noqa: B008  (frozen)
        super().__init__()
        self.size = size
        self.patch_embed = TubeletEmbedding(size.dim, size.patch, size.tubelet)
        tokens = size.frames // size.tubelet * (size.side // size.patch) ** 2
        self.register_buffer("positions", sinusoid_positions(tokens, size.dim), persistent=False)  # not in the file
        self.blocks = nn.ModuleList(
            TokenBlock(size.dim, size.heads, size.hidden, key_bias=False) for _ in range(size.depth)
        )
        self.fc_norm = nn.LayerNorm(size.dim, eps=NORM_EPSILON)
        self.head = nn.Linear(size.dim, size.classes)  # in the file; the features are what it would see

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x) + self.positions  # (N, 2048, 1408)
        for block in self.blocks:
            x = block(x)
        return self.fc_norm(x.mean(dim=1))


def load_videomae(
    file: Path,
    preprocessing: Preprocessing,
    *,
    distance_name: str = "CD-FVD",
    size: VideoMaeSize = VideoMaeSize(),  # noqa: B008  (frozen)
    device: str = "cpu",
    batch_size: int | None = None,
    trusted: str | None = None,
) -> NetworkExtractor:
    """VideoMAE with the weights of a file; UserError if they are not the published ones nor `trusted`, their SHA-256."""
    weights = WEIGHTS["videomae-v2-giant-ssv2"]
    sha256 = check_hash(file, weights, trusted)
    network = VideoMae(size)
    load_strictly(network, read_state(file, "model", "module"), file, f"the weights of {weights.source}")
    facts = NetworkFacts("videomae-v2-giant-ssv2", size.dim, min_frames=1, batch_size=4, frames=size.frames)
    return NetworkExtractor(
        network,
        facts,
        preprocessing,
        distance_name=distance_name,
        files=[file],
        sha256=[sha256],
        device=device,
        batch_size=batch_size,
    )
