"""Evaluation by a named protocol: from clips to the number, its record and its line for a paper."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from eval.clips import form_of
from eval.features import load_extractor, load_protocol_extractor
from eval.protocol import evaluate_clips
from eval.protocol_figures import protocol_figures
from eval.protocol_settings import ProtocolSettings, load_protocol
from eval.weights import NETWORK_FILES, WEIGHTS
from mobilevd import __version__
from mobilevd.errors import UserError
from mobilevd.files import sha256_file
from tests.eval.distances.test_published_frechet import np_cov, stylegan_v


def evaluate(
    generated: np.ndarray, real: np.ndarray, extractor: Any, settings: ProtocolSettings, fps: float | None = None
) -> dict[str, Any]:
    form = form_of(generated)
    return protocol_figures(settings, extractor, extractor(generated), extractor(real), form=form, fps=fps)


def clips(count: int, seed: int, frames: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, frames, 24, 32, 3), dtype=np.uint8)


class Detector(nn.Module):
    """The TorchScript file's calling convention: options for resizing and scaling, random features of coarse pixels."""

    mix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mix", torch.randn(96, 400, generator=torch.Generator().manual_seed(0)) / 10)

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if resize:
            x = nn.functional.interpolate(x, size=[x.shape[2], 224, 224], mode="trilinear", align_corners=False)
        if rescale:
            x = 2.0 * x / 255.0 - 1.0
        x = nn.functional.adaptive_avg_pool3d(x, (2, 4, 4)).flatten(1) @ self.mix
        return x if return_features else x.softmax(1)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "i3d_torchscript.pt"
    torch.jit.script(Detector()).save(str(file))
    return file


def test_stylegan_v_from_bytes_to_the_number(detector: Path) -> None:
    settings = load_protocol("stylegan-v")
    extractor = load_protocol_extractor(settings, detector, trusted=sha256_file(detector))
    generated, real = clips(12, 0), clips(14, 1)
    result = evaluate(generated, real, extractor, settings)
    inputs = (torch.from_numpy(x).permute(0, 4, 1, 2, 3).float() for x in (generated, real))
    a, b = (Detector()(x, rescale=True, resize=True, return_features=True).numpy() for x in inputs)
    assert result["distance"] == pytest.approx(stylegan_v(a, b), rel=1e-4)
    assert result["distance"] != pytest.approx(np_cov(a, b), rel=1e-2), "the covariance is over n"


def test_common_metrics_crops_before_the_file_sees_the_clips(detector: Path) -> None:
    settings = load_protocol("common-metrics-styleganv")
    extractor = load_protocol_extractor(settings, detector, trusted=sha256_file(detector))
    x = clips(1, 2)[:1]
    wide = torch.from_numpy(x[0]).permute(0, 3, 1, 2).float() / 255
    wide = nn.functional.interpolate(wide, size=(224, 299), mode="bilinear", align_corners=False)[..., 37 : 37 + 224]
    due = Detector()(((wide - 0.5) * 2).transpose(0, 1)[None], return_features=True)
    np.testing.assert_allclose(extractor(x), due.numpy(), atol=1e-4)
    assert extractor.protocol["resize"] == "short-side"


def test_motion_is_todays_default_to_the_last_bit() -> None:
    settings = load_protocol("motion")
    generated, real = clips(6, 0), clips(5, 1)
    named = evaluate(generated, real, load_protocol_extractor(settings), settings)
    plain = evaluate_clips(generated, real, load_extractor("motion"))
    assert named["distance"] == plain["distance"] and named["distance_name"] == "FD-motion" == plain["distance_name"]


def test_the_record_says_all_and_where_it_departs(detector: Path) -> None:
    settings = load_protocol("mobilevd-7fps")
    extractor = load_protocol_extractor(settings, detector, trusted=sha256_file(detector))
    record = evaluate(clips(4, 0), clips(5, 1), extractor, settings, fps=25)
    assert record["protocol"] == "mobilevd-7fps" and record["settings"]["distance"]["ddof"] == 0
    assert record["weights_sha256"] == sha256_file(detector)
    assert record["clips"] == {"generated": 4, "real": 5}
    assert (record["frames"], record["height"], record["width"], record["fps"]) == (10, 24, 32, 25)
    versions = {"mobilevd": __version__, "torch": torch.__version__, "transformers": transformers.__version__}
    assert record["versions"] == versions
    assert record["departures"] == [
        "frames: 10 where 14 is meant",
        "frames per second: 25 where 7 is meant",
        "size: 32x24 where 320x240 is meant",
    ]
    line = record["paper_line"]
    assert line.startswith("FVD ") and "on UCF-101 at 7 frames per second" in line
    assert "4 generated against 5 real clips" in line
    assert line.endswith("Not the protocol's: " + "; ".join(record["departures"]) + ".")


def test_a_figure_by_the_book_has_a_line_without_departures(detector: Path) -> None:
    settings = load_protocol("common-metrics-styleganv")
    extractor = load_protocol_extractor(settings, detector, trusted=sha256_file(detector))
    record = evaluate(clips(3, 0), clips(3, 1), extractor, settings)
    assert record["departures"] == []
    assert record["paper_line"].endswith(f"rate not recorded; computed with mobilevd {__version__}.")
    assert not re.search(r"[{}\n]", record["paper_line"])


def test_every_network_has_its_files_in_the_table(tmp_path: Path) -> None:
    assert set().union(*NETWORK_FILES.values()) == set(WEIGHTS)
    for file in WEIGHTS.values():
        assert file.url.startswith("https://")
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
    with pytest.raises(UserError, match=r"vith16\.pth\.tar: not found; v-jepa-huge-ssv2 needs vith16\.pth\.tar"):
        load_protocol_extractor(load_protocol("jedi"), tmp_path)
    (tmp_path / "vith16.pth.tar").touch()
    with pytest.raises(UserError, match=r"ssv2-probe\.pth\.tar: not found"):
        load_protocol_extractor(load_protocol("jedi"), tmp_path / "vith16.pth.tar")
