"""The engines: each prepares what it runs, and then runs it once per call.

A turn is the same for all: one evaluation that does not count, then `TIMED` that do; their median is the sample.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.latency.model import Work
from device_runner.bundle.read import read_bundle
from device_runner.measure.measure import measure
from device_runner.protocol.protocol import Protocol
from export.bundle import Item, describe_model, write_bundle
from export.targets import parse_target
from export.targets.onnx_graph.files import session

TIMED = 2


class Skipped(Exception):
    """An engine that is not available here; the message says why."""


@dataclass(frozen=True)
class Engine:
    """A prepared engine.

    Attributes:
        output: its output for the work's inputs.
        turn: function that runs one turn and returns milliseconds.
        notes: figures of its preparation, for the record.
        exact: True if it computes in float32, so that its output must equal diffusers' except for rounding.
    """

    output: Tensor
    turn: Callable[[], float]
    notes: dict[str, Any] = field(default_factory=dict)
    exact: bool = True


def in_process(run: Callable[[], Tensor], **notes: Any) -> Engine:
    """An engine that is a function of this process."""

    def turn() -> float:
        run()
        samples = []
        for _ in range(TIMED):
            started = time.perf_counter()
            run()
            samples.append((time.perf_counter() - started) * 1000)
        return statistics.median(samples)

    return Engine(run().clone(), turn, notes)


def _lowered(work: Work, target: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Lower our program into a bundle; return its file and figures from the manifest."""
    chosen, precision = parse_target(target)
    items = [Item(work.program, precision)]
    # Random weights lose more to eight bits than trained ones: the loss is recorded, but nothing is refused for it.
    model = describe_model(work.unet, work.ours.settings, None)
    manifest = write_bundle(items, chosen, folder, name="benchmark", model=model, allow_low_parity=precision != "fp32")
    entry = manifest.programs[work.program.name]
    told = {"lowering_s": entry.lowering_s, "size_bytes": entry.size_bytes, "delegation": entry.delegation.to_json()}
    return folder / entry.file, told


def program(work: Work, folder: Path, threads: int, precision: str) -> Engine:
    """The .pte file, run by the C++ runner in a process of its own."""
    target, _ = parse_target(f"executorch-xnnpack:{precision}")
    bundle = folder / f"bundle-{precision}"
    file, notes = _lowered(work, f"{target.name}:{precision}", bundle)
    output = target.run(file, list(work.inputs.values()), threads)[0]
    read_bundle(bundle)  # intact, before it is measured
    protocol = Protocol(warmup=1, iterations=TIMED, threads=threads)
    return Engine(
        output,
        lambda: statistics.median(measure(bundle, "host", protocol).samples_ms),
        notes,
        exact=precision == "fp32",
    )


def eager(module: torch.nn.Module, work: Work) -> Engine:
    return in_process(lambda: module(*work.inputs.values()))


def compiled(work: Work, folder: Path, frozen: bool) -> Engine:
    """diffusers' module by torch.compile (inductor).

    Args:
        frozen: treat the weights as constants, so that inductor stores them packed for oneDNN; meant for inference.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.utils import fresh_cache

    module: Any = torch.compile(work.theirs, dynamic=False, options={"freezing": frozen})
    try:
        get_cpp_compiler()
        with fresh_cache(dir=str(folder)):  # what an earlier run compiled must not shorten the time that is reported
            started = time.perf_counter()
            module(*work.inputs.values())
            compile_s = time.perf_counter() - started
    except RuntimeError as error:
        raise Skipped(f"torch.compile: {str(error).strip().splitlines()[0]}") from error
    return in_process(lambda: module(*work.inputs.values()), compile_s=compile_s)


def onnx_of_diffusers(work: Work, folder: Path, threads: int) -> Engine:
    """ONNX Runtime on diffusers' own export."""
    file = folder / "diffusers.onnx"
    started = time.perf_counter()
    exported = torch.onnx.export(
        work.theirs, tuple(work.inputs.values()), input_names=list(work.inputs), output_names=["latents"], dynamo=True
    )
    assert exported is not None
    exported.save(str(file))
    return _onnx(file, work, threads, lowering_s=time.perf_counter() - started)


def onnx_of_ours(work: Work, folder: Path, threads: int) -> Engine:
    """ONNX Runtime on the graph that the target `onnx` writes."""
    file, notes = _lowered(work, "onnx:fp32", folder / "bundle-onnx")
    return _onnx(file, work, threads, **notes)


def _onnx(file: Path, work: Work, threads: int, **notes: Any) -> Engine:
    runtime = session(file, threads)
    feed = {name: tensor.numpy() for name, tensor in work.inputs.items()}
    return in_process(lambda: torch.from_numpy(runtime.run(None, feed)[0]), **notes)


MAKERS: dict[str, Callable[[Work, Path, int], Engine]] = {
    "program": lambda work, folder, threads: program(work, folder, threads, "fp32"),
    "program, int8": lambda work, folder, threads: program(work, folder, threads, "int8"),
    "program, 8da8w": lambda work, folder, threads: program(work, folder, threads, "8da8w"),
    "diffusers": lambda work, folder, threads: eager(work.theirs, work),
    "ours, eager": lambda work, folder, threads: eager(work.ours, work),
    "torch.compile": lambda work, folder, threads: compiled(work, folder, frozen=False),
    "torch.compile, frozen": lambda work, folder, threads: compiled(work, folder, frozen=True),
    "onnxruntime": onnx_of_diffusers,
    "onnxruntime, ours": onnx_of_ours,
}
"""Name -> engine; all others are compared with the first."""
