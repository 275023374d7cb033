"""The named protocols as data: what they say, what a user's own may say, and the line for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eval.protocol_settings import FrechetSettings, MmdSettings, load_protocol, protocol_names
from mobilevd.errors import UserError
from tests.source import ROOT


def test_every_name_loads_and_is_its_files() -> None:
    assert len(protocol_names()) >= 11
    for name in protocol_names():
        assert load_protocol(name).name == name


# frames, resizing, range, n - ddof, real and generated clips: from the papers and the code that each file names
FACTS = {
    "stylegan-v": (16, "network", None, "bytes", 0, 2048, 2048),
    "videogpt": (16, "short-side", 224, "signed", 1, 256, 256),
    "common-metrics": (None, "short-side", 224, "signed", 1, None, None),
    "common-metrics-styleganv": (None, "short-side", 224, "signed", 1, None, None),
    "cd-fvd-i3d": (16, "stretch", 224, "signed", 0, None, 2048),
    "cd-fvd-videomae": (16, "stretch", 224, "unit", 0, None, 2048),
    "google": (None, "tf1-stretch", 224, "signed", 1, None, None),
    "motion": (None, "network", None, "bytes", 1, None, None),
}


@pytest.mark.parametrize("name", FACTS)
def test_published_facts(name: str) -> None:
    settings = load_protocol(name)
    assert isinstance(settings.distance, FrechetSettings)
    clips = settings.clips
    found = (settings.num_frames, settings.resize.kind, settings.resize.size, settings.value_range,
             settings.distance.ddof, clips.real, clips.generated)  # fmt: skip
    assert found == FACTS[name]


def test_only_videogpts_arithmetic_is_in_float32() -> None:
    single = set()
    for name in protocol_names():
        distance = load_protocol(name).distance
        if isinstance(distance, FrechetSettings) and distance.dtype == "float32":
            single.add(name)
    assert single == {"videogpt", "common-metrics"}


def test_jedi_and_the_papers_own() -> None:
    distance = load_protocol("jedi").distance
    assert isinstance(distance, MmdSettings)
    assert (distance.degree, distance.gamma, distance.coef0, distance.biased, distance.scale) == (2, None, 0, True, 100)
    for rate in (7, 25):
        settings = load_protocol(f"mobilevd-{rate}fps")
        assert settings.frame_size is not None
        assert (settings.fps, settings.num_frames) == (rate, 14)
        assert (settings.frame_size.width, settings.frame_size.height) == (320, 240)
        assert "cannot be claimed" in settings.equals


def own(folder: Path, *changes: tuple[str, str]) -> Path:
    text = (ROOT / "eval" / "protocols" / "cd-fvd-i3d.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


def test_a_protocol_of_ones_own(tmp_path: Path) -> None:
    settings = load_protocol(own(tmp_path, ("name: cd-fvd-i3d", "name: mine"), ("size: 224", "size: 192")))
    assert (settings.name, settings.resize.size) == ("mine", 192)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ddof: 0", "ddof: 2", "distance.ddof: Input should be 0 or 1 .got 2."),
        ("size: 224", "sise: 224", "resize.sise: unknown key"),
        ("value_range: signed", "", "value_range: missing"),
        (
            "kind: stretch, size: 224",
            "kind: network",
            "i3d does not resize clips itself: resize.kind must not be network",
        ),
        (
            "kind: stretch, size: 224",
            "kind: stretch",
            "a size is for stretch, short-side and tf1-stretch, and stretch got",
        ),
        (
            "network: i3d",
            "network: videomae-v2-giant-ssv2",
            "FVD is the Frechet distance on I3D; give this one another",
        ),
        ("ddof: 0", "ddof: 0, dtype: float32", "the exact method computes in float64; float32 is for svd"),
        ("{value}", "{valeu}", "paper_line: 'valeu' is no place that is filled; known: {value}, {generated}"),
        ("temporal: mean-of-logits", "temporal: [", "not valid YAML"),
    ],
)
def test_mistakes_in_ones_own(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"mine\.yaml: .*{said}"):
        load_protocol(own(tmp_path, (old, new)))


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="'stylegan': unknown; did you mean stylegan-v. Known: cd-fvd-i3d, .*videogpt"):
        load_protocol("stylegan")
    with pytest.raises(UserError, match=r"nowhere/own\.yaml: cannot be read: No such file"):
        load_protocol("nowhere/own.yaml")


def test_reading_a_protocol_needs_no_torch() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import importlib.util as u\n"
        "from eval.protocol_settings import load_protocol, protocol_names\n"
        "from eval.weights import WEIGHTS\n"
        "print(len([load_protocol(name) for name in protocol_names()]), len(WEIGHTS))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
