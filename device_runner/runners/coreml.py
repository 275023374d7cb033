"""Runs Core ML bundles: a worker process on a Mac, which may pass the work on to an iPhone."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from device_runner.bundle.read import BundleProgram
from device_runner.devices.job import FILES, OUT, Platform, RawRun, Step
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import Protocol
from device_runner.runners.base import OutputFile, Readings, input_name, program_name
from device_runner.runners.coreml_worker import COMPUTE_UNITS
from device_runner.runners.events import Events, read_events, read_load

WORKER = "device_runner.runners.coreml_worker"
TEAM = "MOBILEVD_APPLE_TEAM"
"""Environment variable with the development team that signs coremltools' model runner for an iPhone."""


class CoremlRunner:
    """The runner on coremltools' benchmarker; `udid` names a connected iPhone, None is the Mac itself."""

    name = "coreml"
    prints_events = True
    targets = frozenset({"coreml"})

    def __init__(self, platform: Platform, udid: str | None = None, compute_units: str = COMPUTE_UNITS[0]) -> None:
        if platform.system not in ("macos", "ios"):
            raise RunnerError(
                f"Core ML programs run on Apple systems only, and this device is {platform.system}: measure the bundle "
                "on a Mac (--device host), or there on an iPhone that is connected to it (--device iphone)"
            )
        if importlib.util.find_spec("coremltools") is None:
            raise RunnerError(
                "Core ML bundles are run by the package coremltools, which is not installed: pip install it"
            )
        if compute_units not in COMPUTE_UNITS:
            raise RunnerError(f"unknown compute units {compute_units!r}; known: {', '.join(COMPUTE_UNITS)}")
        if udid is not None and not os.environ.get(TEAM):
            raise RunnerError(
                f"an iPhone runs signed programs only, and {TEAM} is not set; set it to your Apple development team's "
                "identifier, ten letters and digits"
            )
        self.udid, self.compute_units = udid, compute_units

    def files(self) -> Mapping[str, Path]:
        return {}

    def executables(self) -> frozenset[str]:
        return frozenset()

    def versions(self) -> dict[str, str]:
        return {"coremltools": importlib.metadata.version("coremltools"), "compute_units": self.compute_units}

    def steps(self, program: BundleProgram, protocol: Protocol) -> list[Step]:
        if protocol.cpu_mask is not None:
            raise RunnerError("Core ML chooses its processors itself, so cpu_mask cannot be kept to")
        if protocol.weight_cache == "on":
            raise RunnerError("Core ML has no weight cache of XNNPACK, so weight_cache on cannot be kept to")
        if protocol.memory_pass:
            raise RunnerError(
                f"Core ML's memory is not this process's, so memory_pass of protocol {protocol.name!r} cannot be kept to; "
                "take default, quick or mlperf-single-stream"
            )
        loads = [
            self._step(f"load-{number}", program, protocol, ["--iterations", "0"], ())
            for number in range(1, protocol.cold_loads + 1)
        ]
        options = ["--output-dir", OUT, "--warmup", str(protocol.warmup), "--iterations", str(protocol.iterations)]
        for name in ("min_seconds", "confidence", "max_iterations", "max_seconds"):
            if getattr(protocol, name):
                options += [f"--{name.replace('_', '-')}", repr(getattr(protocol, name))]
        for index, tensor in enumerate(program.inputs):
            options += ["--input", f"{tensor.name}={FILES}/{input_name(index)}"]
        for tensor in program.outputs:
            options += ["--output", tensor.name]
        outputs = tuple(f"output_{index}.bin" for index in range(len(program.outputs)))
        return [*loads, self._step("timed", program, protocol, options, outputs)]

    def _step(
        self, name: str, program: BundleProgram, protocol: Protocol, options: list[str], outputs: tuple[str, ...]
    ) -> Step:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
        phone = ["--device", self.udid, "--team", os.environ.get(TEAM, "")] if self.udid else []
        command = [
            *(sys.executable, "-m", WORKER, "--model", f"{FILES}/{program_name(program)}"),
            *("--method", program.method, "--threads", str(protocol.threads), "--load-mode", protocol.load_mode),
            *("--compute-units", self.compute_units),
        ]
        return Step(name, (*command, *phone, *options), outputs, {"PYTHONPATH": path})

    def read(self, runs: Mapping[str, RawRun], program: BundleProgram, protocol: Protocol) -> Readings:
        loads = []
        for number in range(1, protocol.cold_loads + 1):
            loads.append(self._checked(runs, f"load-{number}", program, protocol))
        timed = self._checked(runs, "timed", program, protocol)
        run = runs["timed"]
        first_ns = timed.iterations[0]["start_ns"]
        notes = ["the times are Core ML's own, of the prediction alone; it chooses threads and processors itself"]
        if self.udid is not None:
            notes.append("load and prediction were timed on the iPhone, the times between runs on the Mac")
        return Readings(
            loads=[{"total": events.load["ns"] / 1e6} for events in [*loads, timed]],
            warmup_ms=[event["ns"] / 1e6 for event in timed.warmup],
            samples_ms=[event["ns"] / 1e6 for event in timed.iterations],
            outputs=[
                OutputFile(run.output_dir / f"output_{event['index']}.bin", event["dtype"], tuple(event["shape"]))
                for event in timed.outputs
            ],
            starts_s=[(event["start_ns"] - first_ns) / 1e9 for event in timed.iterations],
            first_start_uptime_s=first_ns / 1e9 if self.udid is None else None,
            iterations=len(timed.iterations),
            stop=timed.done["stop"],
            memory={"program_bytes": timed.load["program_bytes"]},
            notes=notes,
        )

    def _checked(self, runs: Mapping[str, RawRun], name: str, program: BundleProgram, protocol: Protocol) -> Events:
        if name not in runs:
            failed = next((run for run in runs.values() if run.exit_code != 0), None)
            if failed is not None:
                read_load(failed, protocol)  # raises, with what it said
            raise RunnerError(f"{program.name}: the step {name} was not run")
        timed = name == "timed"
        events = read_events(runs[name], protocol, len(program.outputs)) if timed else read_load(runs[name], protocol)
        expected = program.size_bytes
        if events.load["program_bytes"] != expected:
            raise RunnerError(
                f"{runs[name].device}: the runner loaded {events.load['program_bytes']} bytes, the bundle's program has "
                f"{expected}"
            )
        return events
