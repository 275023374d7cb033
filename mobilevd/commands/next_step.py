"""The last line of a command on a terminal: what can be done next. All of these lines are here; `cli` asks for them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from device_runner.bundle.manifest import MANIFEST
from mobilevd.errors import UserError
from mobilevd.report.page_file import FILE as REPORT
from mobilevd.report.results_file import read_results
from mobilevd.terminal import TerminalConsole

if TYPE_CHECKING:
    from device_runner.bundle.manifest import Manifest
    from mobilevd.config.schema import RunConfig

ELSEWHERE = {
    "executorch-vulkan": "adb",
    "executorch-qnn": "adb",
    "executorch-coreml": "iphone",
    "coreml": "iphone",
}
"""Devices that the programs of a target are measured on, where that is not this host."""
SLOWER, TOO_FEW = 1, 3
"""Exit codes of `compare`."""


def tell_next(step: str | None) -> None:
    """Print the next step, muted: a person at a terminal sees it, and no pipe, log or second process."""
    if step is not None and _on_terminal() and os.environ.get("RANK", "0") == "0":
        TerminalConsole().print(Text(f"next: {step}", style="dim"), soft_wrap=True)


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def _mobilevd(*words: str | Path) -> str:
    return shlex.join(["mobilevd", *map(str, words)])


def after_preparing(config: Path, overrides: Sequence[str] | None, from_stage: str | None = None) -> str:
    """After `run --dry-run`, `train` and `cache`: the run itself, with the same settings."""
    return _mobilevd("run", config, *(overrides or []), *(["--from", from_stage] if from_stage else []))


def after_run(config: RunConfig) -> str | None:
    """After a run: its page, the whole path's bundle of its last model, and its program on a phone."""
    try:
        last = read_results(config.output)["rows"][-1]
        folder = config.output / last["folder"]
    except (UserError, LookupError, TypeError):
        return None
    steps = [f"open {config.output / REPORT}"]
    if last.get("nfe") == 1:
        steps.append(f"{_mobilevd('export', folder / 'model', '--out', 'BUNDLE')} for a phone's whole path")
    if (folder / "bundle" / MANIFEST).is_file():
        steps.append(_mobilevd("bench", folder / "bundle", "--device", "adb"))
    return "; ".join(steps)


def after_export(out: Path, manifests: Mapping[str, Manifest]) -> str | None:
    """After an export to `out`: the latency of its bundles, those together that one device measures."""
    places: dict[str | None, list[Path]] = {}
    for name, manifest in manifests.items():
        place = out if len(manifests) == 1 and (out / MANIFEST).is_file() else out / name
        places.setdefault(ELSEWHERE.get(manifest.target), []).append(place)
    commands = [_mobilevd("bench", *folders, *(["--device", to] if to else [])) for to, folders in places.items()]
    return "; ".join(commands) or None


def after_bench(json: Path | None) -> str:
    """After a measurement: the comparison with another one."""
    if json is None:
        return "the same with --json FILE keeps the result; mobilevd compare A.json B.json tells whether B is slower"
    return f"{_mobilevd('compare', json, 'LATER.json')} tells whether a later result is slower"


def after_compare(code: int) -> str | None:
    """After a comparison: what tells more, where something became slower or cannot be told."""
    if code == SLOWER:
        return "mobilevd bench BUNDLE --profile shows which blocks take the time"
    if code == TOO_FEW:
        return "mobilevd bench BUNDLE --protocol thorough --json FILE takes more samples"
    return None


def after_generate(model: Path | None, bundle: Path | None) -> str | None:
    """After a clip: the bundle of a one-step model, or the latency of a bundle."""
    if bundle is not None:
        return _mobilevd("bench", bundle)
    if model is None:
        return None
    from mobilevd.model.model_place import model_folder
    from mobilevd.pipeline.record import find_record

    record = find_record(model_folder(model))
    return None if record is None or not record.one_step else _mobilevd("export", model, "--out", "BUNDLE")


def after_ladder(run_folder: Path, stage: str) -> str | None:
    """After a ladder of a stage: the export in the precision that the user chooses."""
    model = next((path for path in sorted(run_folder.glob(f"[0-9]*-{stage}/model"))), None)
    if model is None:
        return None
    return _mobilevd("export", model, "--target", "executorch-xnnpack:PRECISION", "--out", "BUNDLE")


def after_build_runner(abi: str, glibc: bool) -> str:
    """After the build of a runner: a measurement with it."""
    return "mobilevd bench BUNDLE" + ("" if abi == "host" else " --device adb") + (" --runner glibc" if glibc else "")


def after_doctor() -> str:
    """After all that is needed was found: a run."""
    smoke = Path("configs") / "smoke.yaml"
    return (
        f"{_mobilevd('run', smoke)} goes through every stage in two minutes" if smoke.is_file() else "mobilevd init DIR"
    )
