"""I3D against its figure written out in plain functions, and the loading of its weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.features import load_extractor, load_protocol_extractor
from eval.networks.i3d import InflatedInception
from eval.protocol_settings import load_protocol
from mobilevd.errors import UserError
from mobilevd.files import sha256_file

# Carreira and Zisserman 2017, figure 3; channels as in Szegedy et al. 2015, table 1, from inception (3a) on
BLOCKS = {
    "3b": (64, 96, 128, 16, 32, 32), "3c": (128, 128, 192, 32, 96, 64), "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64), "4d": (128, 128, 256, 24, 64, 64), "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128), "5b": (256, 160, 320, 32, 128, 128), "5c": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes that VideoGPT's conversion of the TensorFlow Hub module writes; no counts of batches."""
    shapes: dict[str, tuple[int, ...]] = {}

    def unit(name: str, channels_in: int, channels_out: int, k: int) -> None:
        shapes[f"{name}.conv3d.weight"] = (channels_out, channels_in, k, k, k)
        for each in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{each}"] = (channels_out,)

    unit("Conv3d_1a_7x7", 3, 64, 7)
    unit("Conv3d_2b_1x1", 64, 64, 1)
    unit("Conv3d_2c_3x3", 64, 192, 3)
    c = 192
    for block, (w0, w1a, w1b, w2a, w2b, w3) in BLOCKS.items():
        for branch, a, b, k in (("b0", c, w0, 1), ("b1a", c, w1a, 1), ("b1b", w1a, w1b, 3), ("b2a", c, w2a, 1),
                                ("b2b", w2a, w2b, 3), ("b3b", c, w3, 1)):  # fmt: skip
            unit(f"Mixed_{block}.{branch}", a, b, k)
        c = w0 + w1b + w2b + w3
    shapes["logits.conv3d.weight"], shapes["logits.conv3d.bias"] = (400, 1024, 1, 1, 1), (400,)
    return shapes


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Random weights that keep the signal's size through the depth, and norms that are not the identity."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = OrderedDict()
    for name, shape in published_shapes().items():
        x = torch.randn(shape, generator=generator)
        if name.endswith("conv3d.weight"):
            x *= (2 / np.prod(shape[1:])) ** 0.5
        elif name.endswith("running_var"):
            x = 0.5 + x.abs()
        elif name.endswith("bn.weight"):
            x = torch.ones(shape)  # the conversion sets it: the original norm has no scale
        tensors[name] = 0.1 * x if name.endswith(("bn.bias", "running_mean")) else x
    return tensors


@pytest.fixture(scope="module")
def file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
    torch.save(state, path)
    return path


def same(length: int, k: int, s: int) -> tuple[int, int]:
    """Zeros before and after an axis under TensorFlow's SAME, as its documentation has it."""
    total = max(k - s, 0) if length % s == 0 else max(k - length % s, 0)
    return total // 2, total - total // 2


def padded(x: Tensor, k: tuple[int, ...], s: tuple[int, ...]) -> Tensor:
    t, h, w = (same(x.shape[axis + 2], k[axis], s[axis]) for axis in range(3))
    return F.pad(x, (*w, *h, *t))


def plain_i3d(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The figure in float64, function by function."""
    s = {name: tensor.double() for name, tensor in state.items()}

    def unit(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = s[f"{name}.conv3d.weight"]
        x = F.conv3d(padded(x, weight.shape[2:], (stride,) * 3), weight, stride=stride)
        mean, var, bias = (
            s[f"{name}.bn.{each}"][:, None, None, None] for each in ("running_mean", "running_var", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() + bias).clamp(min=0)

    def pool(x: Tensor, k: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        return F.max_pool3d(padded(x, k, stride), k, stride)

    x = pool(unit("Conv3d_1a_7x7", x.double(), 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x)), (1, 3, 3), (1, 2, 2))
    for block in BLOCKS:
        if block == "4b":
            x = pool(x, (3, 3, 3), (2, 2, 2))
        if block == "5b":
            x = pool(x, (2, 2, 2), (2, 2, 2))
        m = f"Mixed_{block}."
        x = torch.cat([unit(m + "b0", x), unit(m + "b1b", unit(m + "b1a", x)), unit(m + "b2b", unit(m + "b2a", x)),
                       unit(m + "b3b", pool(x, (3, 3, 3), (1, 1, 1)))], dim=1)  # fmt: skip
    x = F.avg_pool3d(x, (2, 7, 7), 1)
    logits = torch.einsum("nctij,kc->nktij", x, s["logits.conv3d.weight"].flatten(1))
    return (logits + s["logits.conv3d.bias"][:, None, None, None]).mean(dim=(2, 3, 4))


def test_names_and_shapes_are_those_of_the_published_file() -> None:
    own = {name: tuple(x.shape) for name, x in InflatedInception().state_dict().items() if "num_batches" not in name}
    assert own == published_shapes()
    # 4 bytes each, of the file's 50,939,526; the rest is the names and places of 287 tensors
    assert 0 < 50_939_526 - 4 * sum(int(np.prod(shape)) for shape in own.values()) < 150_000


@pytest.mark.parametrize("name", ["videogpt", "google"])
def test_features_are_the_mean_logits_of_the_figure(name: str, state: dict[str, Tensor], file: Path) -> None:
    """From bytes to features; 17 frames leave two steps to average after the pool."""
    clip = np.random.default_rng(1).integers(0, 256, (1, 17 if name == "videogpt" else 10, 40, 56, 3), dtype=np.uint8)
    extractor = load_protocol_extractor(load_protocol(name), file, trusted=sha256_file(file))
    due = plain_i3d(state, extractor.preprocessing(clip))  # pyright: ignore[reportAttributeAccessIssue]
    found = extractor(clip)
    assert found.shape == (1, 400) and found.dtype == np.float64
    assert np.abs(due.numpy()).max() > 0.1
    np.testing.assert_allclose(found, due.numpy(), rtol=1e-3, atol=1e-4 * float(due.abs().max()))
    assert extractor.distance_name == "FVD"
    assert extractor.protocol["sha256"] == sha256_file(file) and extractor.protocol["feature_dim"] == 400


def test_a_folder_of_weights_serves_too(file: Path) -> None:
    extractor = load_protocol_extractor(load_protocol("cd-fvd-i3d"), file.parent, trusted=sha256_file(file))
    assert extractor.protocol["resize"] == "stretch" and extractor.protocol["file"] == "i3d_pretrained_400.pt"


def test_weights_that_are_not_the_published_ones_are_named(file: Path, tmp_path: Path) -> None:
    settings = load_protocol("videogpt")
    digest = sha256_file(file)
    with pytest.raises(UserError, match=f"SHA-256 {digest}, published: 55095f04.* If you mean these .*{digest}"):
        load_protocol_extractor(settings, file)
    with pytest.raises(
        UserError, match=r"i3d_pretrained_400\.pt: not found; i3d needs i3d_pretrained_400\.pt.*VideoGPT"
    ):
        load_protocol_extractor(settings, tmp_path)


def test_weights_of_another_network(state: dict[str, Tensor], tmp_path: Path) -> None:
    def complaint(content: object) -> str:
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(UserError) as error:
            load_protocol_extractor(
                load_protocol("videogpt"), tmp_path / "other.pt", trusted=sha256_file(tmp_path / "other.pt")
            )
        return str(error.value)

    first = "Conv3d_1a_7x7.bn.bias"
    assert f"lacks {first}" in complaint({name: x for name, x in state.items() if name != first})
    assert "has besides head.weight" in complaint({**state, "head.weight": torch.zeros(1)})
    assert "has logits.conv3d.bias (600,) where (400,) is due" in complaint(
        {**state, "logits.conv3d.bias": torch.zeros(600)}
    )
    assert "holds no table of tensors" in complaint({"epoch": 3})
    assert "loads without running code" in complaint(InflatedInception())


def test_other_sizes_and_too_few_frames(file: Path, tmp_path: Path) -> None:
    trusted = sha256_file(file)
    with pytest.raises(UserError, match="at least 9 frames"):
        load_protocol_extractor(load_protocol("videogpt"), file, trusted=trusted)(np.zeros((1, 8, 9, 9, 3), np.uint8))


def test_an_extractor_of_a_protocol_brings_the_protocols_covariance(file: Path) -> None:
    for spec, ddof in ((f"videogpt:{file}", 1), (f"cd-fvd-i3d:{file}", 0), ("motion", 1)):
        assert load_extractor(spec, trusted=sha256_file(file)).ddof == ddof
    with pytest.raises(UserError, match="jedi is no Frechet distance"):
        load_extractor(f"jedi:{file}")
