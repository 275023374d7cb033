"""FVD's own extractor, with a scripted stand-in of the same calling convention in the place of the real weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.features import FeatureExtractor, load_extractor
from eval.protocol import evaluate_clips
from mobilevd.errors import UserError
from mobilevd.files import sha256_file


class StandIn(nn.Module):
    """Takes (N, 3, T, H, W) of 0..255; its 400 features are pooled pixels of the resized, rescaled clip."""

    mix: Tensor

    def __init__(self, features: int = 400) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mix", torch.randn(3 * 2 * 4 * 4, features, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if resize:
            x = F.interpolate(x, size=[x.shape[2], 224, 224], mode="trilinear", align_corners=False)
        if rescale:
            x = 2.0 * x / 255.0 - 1.0
        pooled = F.adaptive_avg_pool3d(x, (2, 4, 4)).flatten(1) @ self.mix
        return pooled if return_features else pooled.softmax(1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("i3d") / "i3d_torchscript.pt"
    torch.jit.script(StandIn()).save(str(path))
    return path


def trusted(file: Path, **options: Any) -> FeatureExtractor:
    """As a user loads a file of his own: by its hash."""
    return load_extractor(f"i3d:{file}", trusted=sha256_file(file), **options)


def clips(count: int, frames: int = 10) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(count, frames, 16, 24, 3), dtype=np.uint8)


def test_calling_convention(file: Path) -> None:
    extractor = trusted(file, batch_size=2)
    x = clips(5)
    features = extractor(x)
    expected = StandIn()(torch.from_numpy(x).permute(0, 4, 1, 2, 3).float(), True, True, True)
    assert features.shape == (5, 400) and features.dtype == np.float64
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)


def test_only_this_distance_is_called_fvd(file: Path) -> None:
    result = evaluate_clips(clips(4), clips(6), trusted(file), fps=25)
    assert result["distance_name"] == "FVD"
    assert result["extractor"] == "i3d-kinetics400-torchscript"
    assert result["protocol"]["input_size"] == [224, 224] and result["protocol"]["feature_dim"] == 400
    assert load_extractor("motion").distance_name != "FVD"


def test_missing_file_says_which_and_that_the_figure_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nowhere\.pt: not found, so FVD is unavailable; .*i3d_torchscript\.pt .*stylegan-v"
    ):
        load_extractor(f"i3d:{tmp_path / 'nowhere.pt'}")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not a model")
    with pytest.raises(UserError, match="not a TorchScript file"):
        trusted(tmp_path / "text.pt")
    torch.jit.script(StandIn(features=7)).save(str(tmp_path / "seven.pt"))
    with pytest.raises(UserError, match=r"gave features \(2, 7\) where I3D gives \(2, 400\)"):
        trusted(tmp_path / "seven.pt")(clips(2))


def test_too_few_frames(file: Path) -> None:
    with pytest.raises(UserError, match="at least 10 frames"):
        trusted(file)(clips(2, frames=8))


def test_unknown_extractor() -> None:
    with pytest.raises(UserError, match="'clip': unknown; use motion, motion:FOLDER, i3d:FILE or NAME:FILE of"):
        load_extractor("clip")


class Harmful(nn.Module):
    """Writes a file, as TorchScript can by its operator `aten::save`, while it is loaded."""

    def __init__(self, victim: str) -> None:
        super().__init__()
        self.victim = victim

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.victim, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.victim, self.training = state
        torch.save(torch.zeros(1), self.victim)


def test_a_file_that_nobody_vouched_for_is_not_loaded(tmp_path: Path) -> None:
    """Its code would run: a file that loads is one that overwrites others."""
    victim = tmp_path / "thesis.tex"
    torch.jit.script(Harmful(str(victim))).save(str(tmp_path / "i3d_torchscript.pt"))
    victim.write_text("ten years")
    digest = sha256_file(tmp_path / "i3d_torchscript.pt")
    for word in (None, "0" * 64, digest[:-1]):
        with pytest.raises(UserError, match=f"not the published file .*: --trust-torchscript {digest}"):
            load_extractor(f"i3d:{tmp_path / 'i3d_torchscript.pt'}", trusted=word)
    assert victim.read_text() == "ten years"
    with pytest.raises(UserError, match="i3d_torchscript.pt"):  # trusted, it runs, and has no features to give
        load_extractor(f"i3d:{tmp_path / 'i3d_torchscript.pt'}", trusted=digest)(clips(2))
    assert victim.read_bytes() != b"ten years", "what is refused above is really harmful"


def test_the_hash_of_the_weights_is_in_the_protocol(file: Path) -> None:
    assert trusted(file).protocol["sha256"] == sha256_file(file)
