"""VideoMAE against `transformers`' own, and V-JEPA with its probe against its formulae in float64."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import VideoMAEConfig, VideoMAEModel

from eval.networks.videomae import VideoMae, VideoMaeSize, load_videomae
from eval.networks.vjepa import VJepaEncoder, VJepaProbe, VJepaSize, load_vjepa
from eval.preprocessing import Preprocessing
from mobilevd.errors import UserError
from mobilevd.files import sha256_file

MAE = VideoMaeSize(dim=48, depth=3, heads=4, hidden=96, patch=14, frames=4, side=28, classes=5)
JEPA = VJepaSize(dim=32, depth=2, heads=4, frames=4, side=48, classes=5)
UNIT = Preprocessing("stretch", 28, "unit")
IMAGENET = Preprocessing("native", None, "imagenet")


def randomize(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights large enough that attention is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(x.shape, generator=generator) for name, x in module.state_dict().items()}


def clips(frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, frames, height, width, 3), dtype=np.uint8)


def as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published names in those of transformers."""
    found = {
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
    }
    for i in range(MAE.depth):
        here, there = f"blocks.{i}.", f"encoder.layer.{i}."
        q, k, v = state[here + "attn.qkv.weight"].chunk(3)
        attention = there + "attention.attention."
        found |= {attention + "query.weight": q, attention + "key.weight": k, attention + "value.weight": v}
        found |= {attention + "query.bias": state[here + "attn.q_bias"]}
        found |= {attention + "value.bias": state[here + "attn.v_bias"]}
        for ours, theirs in (("attn.proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"),
                             ("mlp.fc2", "output.dense"), ("norm1", "layernorm_before"),
                             ("norm2", "layernorm_after")):  # fmt: skip
            for part in ("weight", "bias"):
                found[f"{there}{theirs}.{part}"] = state[f"{here}{ours}.{part}"]
    return found


@pytest.mark.parametrize("wrapped", ["bare", "module"])
def test_videomae_equals_transformers(wrapped: str, tmp_path: Path) -> None:
    state = randomize(VideoMae(MAE), 1)
    file = tmp_path / "mae.pth"
    torch.save(state if wrapped == "bare" else {"module": state}, file)
    extractor = load_videomae(file, UNIT, size=MAE, trusted=sha256_file(file))
    config = VideoMAEConfig(
        image_size=MAE.side, patch_size=MAE.patch, num_frames=MAE.frames, tubelet_size=MAE.tubelet,
        hidden_size=MAE.dim, num_hidden_layers=MAE.depth, num_attention_heads=MAE.heads, intermediate_size=MAE.hidden,
        layer_norm_eps=1e-6, use_mean_pooling=True,
    )  # fmt: skip
    reference = VideoMAEModel(config).eval()
    reference.load_state_dict(as_transformers(state))
    x = clips(4, 40, 30)
    with torch.inference_mode():
        tokens = reference(UNIT(x).transpose(1, 2)).last_hidden_state
        due = F.layer_norm(tokens.mean(1), (MAE.dim,), state["fc_norm.weight"], state["fc_norm.bias"], 1e-6)
    np.testing.assert_allclose(extractor(x), due.numpy(), rtol=1e-4, atol=1e-5)
    assert extractor.distance_name == "CD-FVD" and extractor.protocol["value_range"] == "unit"
    with pytest.raises(UserError, match="takes clips of 4 frames, got 6"):
        extractor(clips(6, 40, 30))


def test_videomae_giant_is_the_published_size() -> None:
    """1408 features, 40 layers; half precision in a file of 2,023,804,201 bytes (what is over is names and places)."""
    with torch.device("meta"):
        network = VideoMae()
    count = sum(x.numel() for x in network.state_dict().values())
    assert 0 <= 2_023_804_201 - 2 * count < 500_000
    keys = set(network.state_dict())
    assert {
        "patch_embed.proj.weight",
        "blocks.39.attn.q_bias",
        "blocks.0.attn.qkv.weight",
        "fc_norm.bias",
        "head.bias",
    } <= keys
    assert "blocks.0.attn.qkv.bias" not in keys


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, head by head, of (L, D)."""
    d = q.shape[-1] // heads
    out = [
        torch.softmax(q[:, i : i + d] @ k[:, i : i + d].T / math.sqrt(d), -1) @ v[:, i : i + d]
        for i in range(0, q.shape[-1], d)
    ]
    return torch.cat(out, -1)


def plain_jepa(encoder: dict[str, Tensor], probe: dict[str, Tensor], clip: Tensor, table: Tensor) -> Tensor:
    """One clip (3, T, H, W) to its features (D,): V-JEPA's and its probe's formulae, token by token, in float64."""
    e, p = ({name: x.double() for name, x in state.items()} for state in (encoder, probe))
    _, t, h, w = clip.shape
    kernel = e["patch_embed.proj.weight"].flatten(1)
    tokens = torch.stack([
        kernel @ clip[:, i : i + 2, j : j + 16, k : k + 16].double().reshape(-1) + e["patch_embed.proj.bias"]
        for i in range(0, t, 2) for j in range(0, h, 16) for k in range(0, w, 16)
    ])  # fmt: skip
    x = tokens + table.double()

    def norm(name: str, x: Tensor, s: dict[str, Tensor], epsilon: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt() * s[name + ".weight"]
            + s[name + ".bias"]
        )

    def linear(name: str, x: Tensor, s: dict[str, Tensor]) -> Tensor:
        return x @ s[name + ".weight"].T + s[name + ".bias"]

    def mlp(name: str, x: Tensor, s: dict[str, Tensor]) -> Tensor:
        hidden = linear(name + ".fc1", x, s)
        return linear(name + ".fc2", hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))), s)

    for i in range(JEPA.depth):
        b = f"blocks.{i}."
        q, k, v = linear(b + "attn.qkv", norm(b + "norm1", x, e, 1e-6), e).chunk(3, -1)
        x = x + linear(b + "attn.proj", attend(q, k, v, JEPA.heads), e)
        x = x + mlp(b + "mlp", norm(b + "norm2", x, e, 1e-6), e)
    x = norm("norm", x, e, 1e-6)
    c = "pooler.cross_attention_block."
    query = p["pooler.query_tokens"][0]
    k, v = linear(c + "xattn.kv", norm(c + "norm1", x, p, 1e-5), p).chunk(2, -1)
    query = query + attend(linear(c + "xattn.q", query, p), k, v, JEPA.heads)  # no output layer: V-JEPA skips it
    return (query + mlp(c + "mlp", norm(c + "norm2", query, p, 1e-5), p))[0]


@pytest.fixture
def jepa_files(tmp_path: Path) -> tuple[Path, Path, dict[str, Tensor], dict[str, Tensor]]:
    """Both files as Meta publishes them: under a key, with prefixes of wrappers, beside other things."""
    encoder, probe = randomize(VJepaEncoder(JEPA), 2), randomize(VJepaProbe(JEPA), 3)
    torch.save({"target_encoder": {f"module.backbone.{k}": v for k, v in encoder.items()}, "encoder": {}, "epoch": 3},
               tmp_path / "vith16.pth.tar")  # fmt: skip
    torch.save(
        {"classifier": {f"module.{k}": v for k, v in probe.items()}, "epoch": 3}, tmp_path / "ssv2-probe.pth.tar"
    )
    return tmp_path / "vith16.pth.tar", tmp_path / "ssv2-probe.pth.tar", encoder, probe


Files = tuple[Path, Path, dict[str, Tensor], dict[str, Tensor]]


def test_vjepa_at_its_own_size(jepa_files: Files) -> None:
    file, probe_file, encoder, probe = jepa_files
    extractor = load_vjepa(file, probe_file, IMAGENET, size=JEPA)
    x = clips(4, 48, 48)
    due = [plain_jepa(encoder, probe, clip, encoder["pos_embed"][0]) for clip in IMAGENET(x)]
    np.testing.assert_allclose(extractor(x), torch.stack(due).numpy(), rtol=1e-3, atol=1e-4)
    assert extractor.protocol["sha256"] == f"{sha256_file(file)}+{sha256_file(probe_file)}"


def test_vjepa_at_another_size_interpolates_positions(jepa_files: Files) -> None:
    """Trilinear at half-pixel centres: doubling an axis of 3 puts pixel i at (i + 0.5) / 2 - 0.5, ends repeated."""
    file, probe_file, encoder, probe = jepa_files
    x = clips(4, 96, 48)
    table = encoder["pos_embed"].double().reshape(2, 3, 3, JEPA.dim)
    place = torch.tensor([(i + 0.5) / 2 - 0.5 for i in range(6)]).clamp(min=0).double()
    below = place.floor().long()
    weight = (place - below)[None, :, None, None]
    table = table[:, below] * (1 - weight) + table[:, (below + 1).clamp(max=2)] * weight
    due = [plain_jepa(encoder, probe, clip, table.reshape(-1, JEPA.dim)) for clip in IMAGENET(x)]
    found = load_vjepa(file, probe_file, IMAGENET, size=JEPA)(x)
    np.testing.assert_allclose(found, torch.stack(due).numpy(), rtol=1e-3, atol=1e-4)


def test_vjepa_refuses_sides_that_leave_pixels_over(jepa_files: Files) -> None:
    file, probe_file, *_ = jepa_files
    with pytest.raises(
        UserError, match="clips of 4 frames of 50x48; frames must be a multiple of 2, width and height of 16"
    ):
        load_vjepa(file, probe_file, IMAGENET, size=JEPA)(clips(4, 48, 50))
    with pytest.raises(UserError, match=r"ssv2-probe.*: holds no table of tensors by name"):
        load_vjepa(probe_file, probe_file, IMAGENET, size=JEPA)


def test_vjepa_huge_takes_14_frames_of_320x240() -> None:
    """The paper's clips: 7 x 15 x 20 tokens of 1280."""
    with torch.device("meta"):
        encoder = VJepaEncoder(VJepaSize(depth=1))
        assert encoder.pos_embed.shape == (1, 8 * 14 * 14, 1280)
        assert encoder.positions(14, 240, 320).shape == (1, 7 * 15 * 20, 1280)
