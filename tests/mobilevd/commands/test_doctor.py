"""`mobilevd doctor`: what is there, what is not, where it was looked for and what its lack costs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from device_runner.building import host
from device_runner.errors import RunnerError
from eval.weights import WEIGHTS
from mobilevd.commands import doctor
from mobilevd.commands.doctor import doctor_command, examine
from mobilevd.commands.doctor_weights import weight_findings
from mobilevd.commands.finding import Finding


def findings(folder: Path, compiler: str = "g++ 12", adb: str = "adb 36") -> dict[str, Finding]:
    """All findings by name; an empty compiler or adb is one that is not there."""

    def find(found: str, reason: str) -> str:
        if not found:
            raise RunnerError(reason)
        return found

    sections = examine(lambda: find(compiler, "no C++ compiler"), lambda: find(adb, "no adb program"), folder)
    return {finding.name: finding for _, section in sections for finding in section}


def test_what_is_missing_is_named_with_what_it_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", {"pytest": "no tests", "no-such-package": "no miracles"})
    monkeypatch.setattr(doctor, "OPTIONAL", {"pytest": ("pytest", "no tests"), "no_such": ("no-such[x]", "no S3")})
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path))
    for name in ("ANDROID_NDK", "ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    found = findings(tmp_path, "", "")
    assert found["no-such-package"] == Finding(
        "no-such-package", "not installed", False, "no miracles; pip install -c constraints.txt no-such-package"
    )
    assert found["C++ compiler"] == Finding("C++ compiler", "no C++ compiler", False, found["C++ compiler"].cost)
    assert "no measuring" in found["C++ compiler"].cost and "cannot be built" in found["runner"].cost
    # what a run on this machine does not need is no failure
    assert found["no-such[x]"] == Finding("no-such[x]", "not installed", None, "no S3; pip install 'no-such[x]'")
    for name, told in (
        ("adb", "no phones from here"),
        ("NDK runner", "build-runner --executorch DIR --ndk DIR makes it"),
        ("glibc runner", "build-runner --glibc makes it"),
        ("Android NDK", "build-runner --glibc does without"),
        ("cmake", "build-runner --executorch DIR --ndk DIR, and nothing else, builds with it; pip install cmake"),
    ):
        assert found[name].usable is None and told in found[name].cost, name
    found = findings(tmp_path)
    assert (found["adb"].found, found["adb"].usable, found["adb"].cost) == ("adb 36", True, "")
    assert found["C++ compiler"].usable


def test_the_host_runner_is_looked_for_and_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILEVD_CACHE", str(tmp_path / "cache"))
    missing = findings(tmp_path)["runner"]
    assert missing == Finding("runner", "not built yet", None, "the first export or bench builds it, in seconds")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(host, "compile_runner", lambda toolchain, program, *_: program.write_text("runs"))
    built = host.build_host_runner()
    assert findings(tmp_path)["runner"].found == str(built)


def test_without_torch_the_rest_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", {"pytest": "no tests"})
    monkeypatch.setattr(doctor, "IMPORTED", {"pytest": "broken_for_doctor"})
    (tmp_path / "broken_for_doctor.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it did not import
    for name in [name for name in sys.modules if name.partition(".")[0] in ("export", "eval")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "mobilevd.commands.doctor_weights", raising=False)
    found = findings(tmp_path)
    assert found["pytest"].usable is False and "operator torchvision::nms does not exist" in found["pytest"].found
    assert "torch does not import" in found["GPU"].found and found["adb"].found == "adb 36"
    assert "unknown" in found["weights"].found


def test_weights_are_looked_for_where_they_are_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    found = {finding.name: finding for finding in weight_findings()}
    assert found["tiny models"].usable and found["motion encoder"].usable
    i3d = found["i3d-torchscript"]
    assert i3d.found == "not at weights/i3d_torchscript.pt or i3d_torchscript.pt"
    assert "stylegan-v" in i3d.cost and "`mobilevd weights i3d-torchscript` fetches it (51 MB)" in i3d.cost
    for name, part in (("SVD, UNet", "unet"), ("SVD, VAE", "vae"), ("SVD, CLIP", "image_encoder")):
        assert found[name].usable is None and f"stable-video-diffusion-img2vid/{part}" in found[name].found
    assert str(tmp_path / "hub") in found["LPIPS, AlexNet"].found
    assert set(WEIGHTS) < found.keys()

    place = tmp_path / "weights" / "i3d_torchscript.pt"
    place.parent.mkdir()
    place.write_bytes(b"half")
    (tmp_path / "models" / "stable-video-diffusion-img2vid" / "vae").mkdir(parents=True)
    found = {finding.name: finding for finding in weight_findings()}
    assert "has 4 bytes, the published file 51,235,320" in found["i3d-torchscript"].found
    assert found["SVD, VAE"].usable and "base.codec of configs/mobilevd.yaml" in found["SVD, VAE"].found
    with place.open("r+b") as file:
        file.truncate(51_235_320)
    assert next(each for each in weight_findings() if each.name == "i3d-torchscript").usable


@pytest.mark.parametrize("usable", [True, False, None])
def test_only_what_a_run_needs_decides(usable: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    section = ("packages", [Finding("av[x]", "not there", usable, "no videos"), Finding("python", "3.11")])
    monkeypatch.setattr(doctor, "examine", lambda *_: iter([section]))
    console = Console(record=True, width=100)
    assert doctor_command(console) is (usable is not False)
    mark = {True: "ok", False: "no", None: "- "}[usable]
    assert console.export_text().splitlines() == [
        "packages",
        f"{mark} av[x]   not there; without: no videos",
        "   python  3.11",
    ]
