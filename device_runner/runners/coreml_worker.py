"""Times a Core ML package with coremltools' benchmarker, in a process of its own on a Mac.

Arguments, rules and events are those of the C++ runner (`runner/runner.cpp`), except that inputs and outputs are given
by name. The times are Core ML's own, of the prediction alone; on an iPhone they are taken there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from device_runner.protocol.protocol import Protocol as MeasuringProtocol
from device_runner.protocol.stop_rule import stop_reason
from device_runner.runners.worker import (
    Failure,
    emit,
    emit_done,
    keep_stdout_for_events,
    one_line,
    parse,
    protocol_of,
    read_tensor,
    uptime_ns,
    worker_parser,
    write_outputs,
)

if TYPE_CHECKING:
    import numpy as np

COMPUTE_UNITS = ("ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")
Predict = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]


class Benchmarker(Protocol):
    """The part used here of `coremltools.models.ml_program.experimental.perf_utils.MLModelBenchmarker`."""

    async def benchmark_load(self, iterations: int = 1) -> Any:
        """Time the loading; returns an object whose `samples` are milliseconds."""
        ...

    async def benchmark_predict(self, inputs: Any = None, iterations: int = 1, warmup: bool = False) -> Any: ...


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = worker_parser("coreml_worker")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--output", action="append", default=[], metavar="NAME")
    parser.add_argument("--compute-units", choices=COMPUTE_UNITS, default=COMPUTE_UNITS[0])
    parser.add_argument("--device", metavar="UDID")
    parser.add_argument("--team", default="")
    return parse(parser, arguments)


def read_inputs(wanted: Mapping[str, tuple[str, tuple[int, ...]]], files: list[str]) -> dict[str, np.ndarray]:
    """Read the inputs by name; `wanted` gives each one's dtype and shape."""
    given = {name: file for name, _, file in (text.partition("=") for text in files)}
    if set(given) != set(wanted):
        raise Failure("inputs", f"the program takes {', '.join(sorted(wanted))}; given were {', '.join(sorted(given))}")
    return {
        name: read_tensor(Path(given[name]), dtype, shape, f"input {name}") for name, (dtype, shape) in wanted.items()
    }


async def measure(
    benchmarker: Benchmarker, predict: Callable[[], Predict], inputs: dict[str, Any], options: argparse.Namespace
) -> None:
    """Do a whole run, event by event.

    Args:
        predict: makes the function that computes the outputs; called when nothing is timed any more.
    """
    protocol = protocol_of(options)
    load_ms = await _timed("load", benchmarker.benchmark_load(iterations=1))
    load_ns = round(load_ms * 1e6)
    emit(
        "load",
        ns=load_ns,
        program_ns=0,
        method_ns=load_ns,
        threads=options.threads,
        program_bytes=package_bytes(options.model),
        method=options.method,
        load_mode=options.load_mode,
        affinity="",
    )
    if options.iterations == 0:
        emit_done(0, "count")
        return
    for index in range(options.warmup):
        ms = await _timed("warmup", benchmarker.benchmark_predict(inputs=inputs, iterations=1))
        emit("warmup", index=index, ns=round(ms * 1e6), cpu_ns=0)
    count, stop = await _timed_runs(benchmarker, inputs, protocol)
    del benchmarker
    gc.collect()  # the model must not be in memory twice
    try:
        outputs = await predict()(inputs)
    except Exception as error:  # coremltools raises RuntimeError, ValueError and exceptions of its tools
        raise Failure("output", f"the program could not be run once more for its outputs: {one_line(error)}") from None
    if missing := [name for name in options.output if name not in outputs]:
        raise Failure("output", f"the program has no output {missing[0]!r}; it has: {', '.join(sorted(outputs))}")
    write_outputs([outputs[name] for name in options.output], options.output_dir)
    emit_done(count, stop)


async def _timed_runs(benchmarker: Benchmarker, inputs: dict[str, Any], protocol: MeasuringProtocol) -> tuple[int, str]:
    samples: list[int] = []
    first_ns = 0
    while True:
        start_ns = uptime_ns()
        ms = await _timed("iteration", benchmarker.benchmark_predict(inputs=inputs, iterations=1))
        samples.append(round(ms * 1e6))
        emit("iteration", index=len(samples) - 1, start_ns=start_ns, ns=samples[-1], cpu_ns=0)
        first_ns = first_ns or start_ns
        if reason := stop_reason(samples, start_ns + samples[-1] - first_ns, protocol):
            return len(samples), reason


async def _timed(stage: str, measuring: Awaitable[Any]) -> float:
    """The one sample of a benchmark, in milliseconds."""
    try:
        samples = (await measuring).samples
    except Exception as error:  # as in `measure`
        raise Failure(stage, one_line(error)) from None
    if len(samples) != 1 or not samples[0] > 0:
        raise Failure(stage, f"coremltools told {samples!r} instead of one time in milliseconds")
    return float(samples[0])


def package_bytes(package: Path) -> int:
    """Total size of all files of an .mlpackage, which is a folder."""
    files = [path for path in package.rglob("*") if path.is_file()] if package.is_dir() else [package]
    return sum(path.stat().st_size for path in files)


def wanted_inputs(model: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> dtype and shape of the inputs, from the package."""
    from coremltools import proto

    features: Any = proto.FeatureTypes_pb2
    kind = features.ArrayFeatureType.ArrayDataType
    dtypes = {kind.FLOAT32: "float32", kind.FLOAT16: "float16", kind.DOUBLE: "float64", kind.INT32: "int32"}
    wanted = {}
    for feature in model.get_spec().description.input:
        array = feature.type.multiArrayType
        if array.dataType not in dtypes:
            raise Failure("inputs", f"input {feature.name} is not an array of a type that a raw file can have")
        wanted[feature.name] = (dtypes[array.dataType], tuple(array.shape))
    return wanted


async def connected_device(udid: str, team: str) -> Any:
    """The iPhone, with coremltools' model runner built, signed and started on it (needs Xcode)."""
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device, DeviceType

    try:
        devices: list[Any] = [
            device for device in Device.get_connected_devices(DeviceType.IPHONE) if device.udid == udid
        ]
        if not devices:
            raise Failure("load", f"no iPhone {udid} is connected")
        credentials = AppSigningCredentials(
            development_team=team or None, bundle_identifier=None, provisioning_profile_uuid=None
        )
        return await devices[0].prepare_for_model_debugging(credentials=credentials)
    except Failure:
        raise
    except Exception as error:  # as in `measure`
        raise Failure("load", f"iPhone {udid} cannot be used: {one_line(error)}") from None


async def run(arguments: list[str]) -> None:
    options = parse_arguments(arguments)
    import coremltools
    from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    units = coremltools.ComputeUnit[options.compute_units]
    try:
        model = coremltools.models.MLModel(str(options.model), compute_units=units, skip_model_load=True)
    except Exception as error:  # as in `measure`
        raise Failure("load", f"{options.model} could not be loaded: {one_line(error)}") from None
    device: Any = await connected_device(options.device, options.team) if options.device else None
    inputs = read_inputs(wanted_inputs(model), options.input) if options.iterations else {}

    def predict() -> Predict:
        weights = model.weights_dir or ""
        wrapper = MLModelAsyncWrapper.from_spec_or_path(model.get_spec(), weights, compute_units=units, device=device)
        return lambda inputs: wrapper.predict(inputs, state=None)

    await measure(MLModelBenchmarker(model, device=device), predict, inputs, options)


def main() -> int:
    """The exit code: 0, or 1 after an `error` event."""
    keep_stdout_for_events()
    try:
        asyncio.run(run(sys.argv[1:]))
        return 0
    except Failure as failure:
        emit("error", stage=failure.stage, message=str(failure))
    except ImportError as error:
        emit("error", stage="load", message=f"coremltools cannot be imported: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
