"""LPIPS: unavailable without local weights, and the right arithmetic where there are some."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from eval.perceptual import BACKBONE_FILE, build_lpips, lpips_distance, perceptual_distance
from mobilevd.errors import UserError


def clips(seed: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(2, 3, size, 64, 3), dtype=np.uint8)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr("torchvision._internally_replaced_utils.load_state_dict_from_url", refuse)


def test_unavailable_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    figure = perceptual_distance(clips(0), clips(1))
    assert figure.value is None
    assert figure.unavailable == f"AlexNet weights for LPIPS not found at {tmp_path / 'checkpoints' / BACKBONE_FILE}"
    figure = perceptual_distance(clips(0), clips(1), tmp_path / "own.pth")
    assert figure.value is None and "own.pth" in (figure.unavailable or "")


def test_arithmetic_with_a_random_backbone(no_network: None) -> None:
    metric = build_lpips(None)
    a, b = clips(0), clips(1)
    slightly = np.clip(a.astype(int) + 3, 0, 255).astype(np.uint8)
    assert lpips_distance(metric, a, a) == pytest.approx(0, abs=1e-7)
    near, far = lpips_distance(metric, a, slightly), lpips_distance(metric, a, b)
    assert 0 < near < far
    # The mean over all frames, whatever the batches are.
    single = [
        lpips_distance(metric, a[i : i + 1, t : t + 1], b[i : i + 1, t : t + 1]) for i in range(2) for t in range(3)
    ]
    assert far == pytest.approx(np.mean(single), rel=1e-5)
    assert lpips_distance(metric, a, b, batch_size=4) == pytest.approx(far, rel=1e-5)
    # And it is given pixels in [-1, 1], as lpips asks for.
    x, y = (torch.from_numpy(c[0, :1]).permute(0, 3, 1, 2).float() / 127.5 - 1 for c in (a, b))
    assert single[0] == pytest.approx(metric(x, y).item(), rel=1e-5)


def test_a_local_backbone_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None) -> None:
    torch.manual_seed(5)
    weights = {
        k: v for k, v in torchvision.models.alexnet(weights=None).state_dict().items() if k.startswith("features")
    }
    (tmp_path / "checkpoints").mkdir()
    torch.save(weights, tmp_path / "checkpoints" / BACKBONE_FILE)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    metric = build_lpips(tmp_path / "checkpoints" / BACKBONE_FILE)
    assert torch.equal(dict(metric.named_parameters())["net.slice3.6.weight"], weights["features.6.weight"])
    figure = perceptual_distance(clips(0), clips(1))
    assert figure.unavailable is None
    assert figure.value == pytest.approx(lpips_distance(metric, clips(0), clips(1)), rel=1e-6)


def test_bad_input(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="not torchvision's AlexNet weights"):
        perceptual_distance(clips(0), clips(1), tmp_path / "other.pth")
    metric = build_lpips(None)
    with pytest.raises(UserError, match="at least 32 pixels"):
        lpips_distance(metric, clips(0, 16), clips(1, 16))
    with pytest.raises(UserError, match="of one shape"):
        lpips_distance(metric, clips(0), clips(1)[:1])
