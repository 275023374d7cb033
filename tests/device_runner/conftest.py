"""A real bundle with a small exported network, the real runner, and a fake one to put in its place."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runner.building.command import build_runner_command
from device_runner.building.host import build_host_runner
from device_runner.errors import RunnerError

INPUTS = {"image": (1, 3, 16, 16), "scale": (1, 8, 1, 1)}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest with the sizes and hashes of the files as they are now."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    manifest["files"] = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size_bytes": path.stat().st_size,
        }
        for path in files
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def export_small_network(folder: Path) -> None:
    """A two-convolution network with two inputs, lowered to XNNPACK, beside its inputs and eager outputs."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    class SmallNetwork(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.second = torch.nn.Conv2d(8, 4, 3, padding=1)

        def forward(self, image: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return self.second(torch.relu(self.first(image)) * scale)

    torch.manual_seed(0)
    network = SmallNetwork().eval()
    tensors = [torch.randn(shape) for shape in INPUTS.values()]
    with torch.no_grad():
        output = network(*tensors)
        exported = torch.export.export(network, tuple(tensors), strict=False)
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    (folder / "unet.pte").write_bytes(program.buffer)
    for name, tensor in zip([*INPUTS, "latents"], [*tensors, output], strict=True):
        tensor.numpy().tofile(folder / "reference" / f"unet.{name}.bin")


@pytest.fixture(scope="session")
def pristine_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "small"
    (folder / "reference").mkdir(parents=True)
    export_small_network(folder)

    def tensor(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
        file = f"reference/unet.{name}.bin"
        return {"name": name, "shape": list(shape), "dtype": "float32", "file": file}

    unet = {
        "file": "unet.pte",
        "method": "forward",
        "inputs": [tensor(name, shape) for name, shape in INPUTS.items()],
        "outputs": [tensor("latents", (1, 4, 16, 16)) | {"min_psnr_db": 100.0}],
        "parity": {"psnr_db": 120.0, "max_abs_error": 1e-6, "snr_db": 110.0, "inputs": "noise"},
        "delegation": {"delegates": 1, "operators_outside": []},
    }
    manifest = {
        "schema_version": 1,
        "name": "small",
        "target": "executorch-xnnpack",
        "precision": "fp32",
        "created": "2025-01-01T00:00:00+00:00",
        "programs": {"unet": unet},
        "model": {"parameters": 516, "flops": 1000},
        "tools": {"executorch": "1.5.1"},
    }
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def bundle(pristine_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pristine_bundle, tmp_path / "bundle"))


@pytest.fixture
def edit_manifest(bundle: Path) -> Callable[..., None]:
    """Change the manifest: `edit(change)` calls `change(manifest)`; `rehash=True` hashes the files anew."""

    def edit(change: Callable[[dict[str, Any]], Any] = lambda manifest: None, rehash: bool = False) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        change(manifest)
        if rehash:
            write_manifest(bundle, manifest)
        else:
            (bundle / "manifest.json").write_text(json.dumps(manifest))

    return edit


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real runner, built once for the session."""
    return build_host_runner(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def arm64_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the runner for arm64."""
    compiler = "aarch64-linux-gnu-g++"
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}, so the runner cannot be built for arm64")
    cache = tmp_path_factory.mktemp("arm64-cache")
    try:
        build_runner_command("arm64-v8a", glibc=True, cache_dir=cache)
    except RunnerError as error:
        if "download" not in str(error):
            raise
        pytest.skip(f"no wheel for arm64: {error}")
    return cache


@pytest.fixture
def fake_runner(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A shell script that prints `stdout` to the byte and ends with `exit_code`, after `body`.

    In `stdout`, a size of the program of -1 is replaced by its true one.
    """
    size = (bundle / "unet.pte").stat().st_size

    def make(stdout: str, exit_code: int = 0, stderr: str = "", body: str = "") -> Path:
        stdout = stdout.replace('"program_bytes":-1', f'"program_bytes":{size}')
        (tmp_path / "stdout.txt").write_bytes(stdout.encode())
        (tmp_path / "stderr.txt").write_bytes(stderr.encode())
        script = tmp_path / "fake-runner"
        here = f"'{tmp_path}"
        script.write_text(f"#!/bin/sh\n{body}\ncat {here}/stdout.txt'\ncat {here}/stderr.txt' >&2\nexit {exit_code}\n")
        script.chmod(0o755)
        return script

    return make


@pytest.fixture
def reference_output(bundle: Path) -> np.ndarray:
    return np.fromfile(bundle / "reference" / "unet.latents.bin", np.float32)
