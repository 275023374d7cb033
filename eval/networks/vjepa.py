"""V-JEPA's ViT-H/16 with the attentive pooler of its Something-Something V2 probe, as JEDi uses it (Luo et al. 2024).

This is the first V-JEPA (Bardes et al. 2024), with position embeddings that are added to the tokens and lie in the
weights; `transformers` has V-JEPA 2 alone, whose positions rotate queries and keys, and cannot express it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.networks.extractor import NetworkExtractor, NetworkFacts
from eval.networks.state_files import load_strictly, read_state
from eval.networks.video_transformer import NORM_EPSILON, TokenBlock, TokenMlp, TubeletEmbedding
from eval.preprocessing import Preprocessing
from eval.weights import WEIGHTS, check_hash
from mobilevd.errors import UserError


@dataclass(frozen=True)
class VJepaSize:
    """Size of the network; the defaults are ViT-H/16's at 16 frames of 224x224."""

    dim: int = 1280
    depth: int = 32
    heads: int = 16
    patch: int = 16
    tubelet: int = 2
    frames: int = 16
    side: int = 224
    classes: int = 174

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along time, height and width."""
        return self.frames // self.tubelet, self.side // self.patch, self.side // self.patch


class VJepaEncoder(nn.Module):
    """A map from clips (N, 3, T, H, W) to tokens (N, T/2 * H/16 * W/16, D)."""

    def __init__(self, size: VJepaSize) -> None:
        super().__init__()
        self.size = size
        t, h, w = size.grid
        self.patch_embed = TubeletEmbedding(size.dim, size.patch, size.tubelet)
        self.pos_embed = nn.Parameter(torch.zeros(1, t * h * w, size.dim), requires_grad=False)
        self.blocks = nn.ModuleList(
            TokenBlock(size.dim, size.heads, 4 * size.dim, key_bias=True) for _ in range(size.depth)
        )
        self.norm = nn.LayerNorm(size.dim, eps=NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x) + self.positions(x.shape[2], x.shape[3], x.shape[4])
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def positions(self, frames: int, height: int, width: int) -> Tensor:
        """The position embeddings (1, tokens, D) of a clip; those of another size than trained are trilinear between."""
        size = self.size
        if height % size.patch or width % size.patch or frames % size.tubelet:
            raise UserError(
                f"V-JEPA: clips of {frames} frames of {width}x{height}; frames must be a multiple of {size.tubelet}, "
                f"width and height of {size.patch}"
            )
        wanted = frames // size.tubelet, height // size.patch, width // size.patch
        if wanted == size.grid:
            return self.pos_embed
        table = self.pos_embed.reshape(1, *size.grid, size.dim).permute(0, 4, 1, 2, 3)
        # By factors, as V-JEPA calls it: torch then takes source places from the factor and not from the sizes.
        factors = tuple(new / old for new, old in zip(wanted, size.grid, strict=True))
        table = F.interpolate(table, scale_factor=factors, mode="trilinear")
        return table.permute(0, 2, 3, 4, 1).reshape(1, -1, size.dim)


class QueryAttention(nn.Module):
    """Attention of a query (N, 1, D) to tokens (N, L, D). The probe's output layer `proj` lies in its weights, unused."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, query: Tensor, x: Tensor) -> Tensor:
        n, length, dim = x.shape
        q = self.q(query).reshape(n, 1, self.heads, -1).transpose(1, 2)
        k, v = self.kv(x).reshape(n, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (N, heads, L, D / heads)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, 1, dim)


class QueryBlock(nn.Module):
    """Pre-norm block whose query attends to the tokens; only the tokens are normed before, by torch's epsilon."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.xattn = QueryAttention(dim, heads)
        self.mlp = TokenMlp(dim, 4 * dim)

    def forward(self, query: Tensor, x: Tensor) -> Tensor:
        query = query + self.xattn(query, self.norm1(x))
        return query + self.mlp(self.norm2(query))


class ProbePooler(nn.Module):
    """A map from tokens (N, L, D) to one feature vector (N, D) by a learned query."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, 1, dim))
        self.cross_attention_block = QueryBlock(dim, heads)

    def forward(self, x: Tensor) -> Tensor:
        return self.cross_attention_block(self.query_tokens.expand(len(x), -1, -1), x)[:, 0]


class VJepaProbe(nn.Module):
    """The probe as its file has it; the features are what its linear layer would see."""

    def __init__(self, size: VJepaSize) -> None:
        super().__init__()
        self.pooler = ProbePooler(size.dim, size.heads)
        self.linear = nn.Linear(size.dim, size.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.pooler(x)


def load_vjepa(
    file: Path,
    probe_file: Path,
    preprocessing: Preprocessing,
    *,
    distance_name: str = "JEDi",
    size: VJepaSize = VJepaSize(),  # noqa: B008  (frozen)
    device: str = "cpu",
    batch_size: int | None = None,
    trusted: str | None = None,
) -> NetworkExtractor:
    """V-JEPA and its probe with the weights of two files; UserError if they are of another network."""
    weights, probe_weights = WEIGHTS["v-jepa-huge"], WEIGHTS["v-jepa-huge-ssv2-probe"]
    sha256 = [check_hash(file, weights, trusted), check_hash(probe_file, probe_weights, trusted)]
    encoder, probe = VJepaEncoder(size), VJepaProbe(size)
    load_strictly(encoder, read_state(file, "target_encoder", "encoder"), file, f"the weights of {weights.source}")
    load_strictly(probe, read_state(probe_file, "classifier"), probe_file, f"the weights of {probe_weights.source}")
    return NetworkExtractor(
        nn.Sequential(encoder, probe),
        NetworkFacts("v-jepa-huge-ssv2", size.dim, min_frames=size.tubelet, batch_size=2),
        preprocessing,
        distance_name=distance_name,
        files=[file, probe_file],
        sha256=sha256,
        device=device,
        batch_size=batch_size,
    )
