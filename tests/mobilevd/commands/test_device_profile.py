"""What a trace that the runner left on a device says, read with the bundle alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from device_runner.bundle.read import Bundle, read_bundle
from device_runner.devices.kinds import open_device
from device_runner.errors import RunnerError
from device_runner.measure.trace import RUNS, take_trace
from device_runner.protocol.protocol import Protocol
from device_runner.runners.choose import choose_runner
from export.bundle import export_bundle
from mobilevd.commands.profile import print_profile, read_profile
from mobilevd.errors import UserError
from tests.export.models import SETTINGS, unet


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """An ETDump that the runner wrote on this host, and the bundle it ran."""
    folder = tmp_path_factory.mktemp("profile")
    export_bundle(unet(), folder / "bundle", SETTINGS, name="test")
    bundle, device = read_bundle(folder / "bundle"), open_device("host")
    (folder / "out").mkdir()
    protocol = Protocol(warmup=1, iterations=2, threads=1)
    runner = choose_runner(bundle, device)
    dump = take_trace(bundle, bundle.program("unet"), device, protocol, runner, folder / "out")
    return dump, bundle


def with_places(bundle: Bundle, folder: Path, places: object) -> Path:
    """A copy of the bundle whose program has other places; None: it has none."""
    shutil.copytree(bundle.folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    program = manifest["programs"]["unet"]
    program["places"] = places
    if places is None:
        del program["places"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_time_by_block_from_a_run_of_the_runner(traced: tuple[Path, Bundle]) -> None:
    profile = read_profile(*traced, "unet", RUNS)
    assert json.loads(json.dumps(profile)) == profile
    assert profile["runs"] == RUNS and profile["total_ms"] > 0 and profile["by_block_reason"] is None
    blocks = {row["block"]: row for row in profile["by_block"]}
    assert set(blocks) >= {"conv_in", "down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1"}
    ms = sum(row["ms"] for row in profile["by_block"])
    assert ms == pytest.approx(sum(row["ms"] for row in profile["by_part"]))
    assert profile["unaccounted_ms"] == pytest.approx(profile["total_ms"] - ms)
    assert sum(row["count"] for row in profile["by_block"]) == profile["operators"] > 500
    assert all(row["share"] == pytest.approx(row["ms"] / profile["total_ms"]) for row in profile["by_block"])
    assert profile["outside_delegate_share"] == 0 and len(profile["by_operator"]) == 10
    assert [row["ms"] for row in profile["by_operator"]] == sorted(
        (row["ms"] for row in profile["by_operator"]), reverse=True
    )


def test_it_is_printed_in_eighty_columns(traced: tuple[Path, Bundle]) -> None:
    profile = read_profile(*traced, "unet", RUNS)
    console = Console(width=80, record=True, file=open("/dev/null", "w", encoding="utf-8"))
    print_profile(profile, console)
    text = console.export_text()
    assert "mid_block" in text and "spatial attention" in text and f"{profile['total_ms']:.3f} ms" in text
    assert all(len(line) <= 80 for line in text.splitlines() if line.startswith(("│", "┃")))


def test_another_number_of_runs_is_refused(traced: tuple[Path, Bundle]) -> None:
    with pytest.raises(UserError, match=f"must hold {RUNS + 1} equal evaluations"):
        read_profile(*traced, "unet", RUNS + 1)


def test_without_places_there_are_operators_and_the_reason(traced: tuple[Path, Bundle], tmp_path: Path) -> None:
    dump, bundle = traced
    profile = read_profile(dump, read_bundle(with_places(bundle, tmp_path / "b", None)), "unet", RUNS)
    assert profile["by_block"] is None and profile["by_part"] is None and profile["by_operator"]
    assert "does not say where" in profile["by_block_reason"]


@pytest.mark.parametrize("places", ["../unet.places.json", "reference/unet.noise.bin", "absent.json"])
def test_places_must_be_a_file_of_the_bundle(places: str, traced: tuple[Path, Bundle], tmp_path: Path) -> None:
    dump, bundle = traced
    changed = read_bundle(with_places(bundle, tmp_path / "b", places))
    with pytest.raises(UserError, match=r"programs\.unet\.places is .*must name one of the bundle's own files"):
        read_profile(dump, changed, "unet", RUNS)


def test_places_that_are_no_name_are_refused_with_the_bundle(traced: tuple[Path, Bundle], tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"programs\.unet\.places must be a text, not 3"):
        read_bundle(with_places(traced[1], tmp_path / "b", 3))


def test_a_program_that_the_bundle_does_not_have(traced: tuple[Path, Bundle]) -> None:
    with pytest.raises(RunnerError, match="no program 'decoder'; it has: unet"):
        read_profile(*traced, "decoder", RUNS)
