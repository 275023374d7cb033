"""Our own runner: it reports every sample, and its results count only if its events are complete and consistent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from device_runner.bundle.read import BundleProgram
from device_runner.devices.job import FILES, OUT, RawRun, Step
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import Protocol
from device_runner.runners.base import OutputFile, Readings, input_name, program_name
from device_runner.runners.deployment import Deployment
from device_runner.runners.events import UNKNOWN, Events, read_events, read_load

TARGETS = {"xnnpack": "executorch-xnnpack", "vulkan": "executorch-vulkan"}
"""Name of a compiled-in backend -> target of the bundles that it runs."""
TIMED, MEMORY, PROFILE = "timed", "memory", "profile"
ETDUMP = "trace.etdump"


class MobilevdRunner:
    """Our runner in one of its forms."""

    name = "mobilevd"
    prints_events = True

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.targets = frozenset(TARGETS[backend] for backend in deployment.backends if backend in TARGETS)

    @property
    def form(self) -> str | None:
        return self.deployment.form

    def files(self) -> Mapping[str, Path]:
        return self.deployment.files

    def executables(self) -> frozenset[str]:
        return self.deployment.executables

    def versions(self) -> dict[str, str]:
        return dict(self.deployment.versions)

    def steps(self, program: BundleProgram, protocol: Protocol) -> list[Step]:
        """The steps, each a process of its own: cold loads, then the memory pass, then the timed runs."""
        loads = [
            self._step(f"load-{number}", program, protocol, {"--iterations": 0}, outputs=())
            for number in range(1, protocol.cold_loads + 1)
        ]
        memory = [self._run_step(MEMORY, program, memory_protocol(protocol))] if protocol.memory_pass else []
        return [*loads, *memory, self._run_step(TIMED, program, protocol)]

    def profile_step(self, program: BundleProgram, protocol: Protocol, runs: int = 3) -> Step:
        """The step that leaves an ETDump of `runs` timed runs; for a job of its own, since tracing costs time."""
        step = self._run_step(PROFILE, program, profile_protocol(protocol, runs))
        command = (*step.command, "--etdump", f"{OUT}/{ETDUMP}")
        return replace(step, command=command, outputs=(*step.outputs, ETDUMP))

    def read(self, runs: Mapping[str, RawRun], program: BundleProgram, protocol: Protocol) -> Readings:
        """Read the steps, if all of them are there and each is complete.

        Raises `RunnerError` for the first that is not.
        """
        for step in self.steps(program, protocol):
            if step.name in runs and runs[step.name].exit_code != 0:
                break  # read below, where its own failure is the error; the steps after it were not run
            if step.name not in runs:
                raise RunnerError(f"{program.name}: the step {step.name} was not run")
        loads = [
            self._load_of(runs[f"load-{number}"], program, protocol) for number in range(1, protocol.cold_loads + 1)
        ]
        memory = self._events(runs[MEMORY], program, memory_protocol(protocol)) if protocol.memory_pass else None
        timed = self._events(runs[TIMED], program, protocol)
        return _readings(runs[TIMED], loads, memory or timed, timed)

    def read_profile(
        self, run: RawRun, program: BundleProgram, protocol: Protocol, runs: int = 3
    ) -> tuple[Readings, Path]:
        """The readings of the step that `profile_step` made, for the check of its outputs, and the path of its ETDump.

        Raises `RunnerError` if the run or the trace is not complete.
        """
        traced = profile_protocol(protocol, runs)
        events = self._events(run, program, traced, etdump=True)
        assert events.etdump is not None  # the events were counted
        path = run.output_dir / ETDUMP
        size = path.stat().st_size if path.is_file() else None
        if events.etdump["file"] != ETDUMP or size != events.etdump["bytes"] or not size:
            found = "is missing" if size is None else f"has {size} bytes"
            raise RunnerError(f"{run.device}: the trace {ETDUMP} {found}, the runner reports {events.etdump}")
        return _readings(run, [], events, events), path

    def _run_step(self, name: str, program: BundleProgram, protocol: Protocol) -> Step:
        options: dict[str, Any] = {
            "--output-dir": OUT,
            "--warmup": protocol.warmup,
            "--iterations": protocol.iterations,
        }
        if protocol.min_seconds:
            options["--min-seconds"] = repr(float(protocol.min_seconds))
        if protocol.confidence is not None:
            options["--confidence"] = repr(float(protocol.confidence))
            if protocol.max_iterations is not None:
                options["--max-iterations"] = protocol.max_iterations
            if protocol.max_seconds is not None:
                options["--max-seconds"] = repr(float(protocol.max_seconds))
        inputs = [part for index in range(len(program.inputs)) for part in ("--input", f"{FILES}/{input_name(index)}")]
        outputs = () if name == MEMORY else tuple(f"output_{index}.bin" for index in range(len(program.outputs)))
        return self._step(name, program, protocol, options, outputs, inputs)

    def _step(
        self,
        name: str,
        program: BundleProgram,
        protocol: Protocol,
        options: Mapping[str, Any],
        outputs: tuple[str, ...],
        inputs: list[str] | None = None,
    ) -> Step:
        every = {
            "--model": f"{FILES}/{program_name(program)}",
            "--method": program.method,
            "--threads": protocol.threads,
            "--load-mode": protocol.load_mode,
            "--weight-cache": protocol.weight_cache,
        }
        arguments = [str(part) for option in {**every, **options}.items() for part in option]
        command = (*self.deployment.command, *arguments, *(inputs or []))
        return Step(name, command, outputs, dict(self.deployment.environment))

    def _events(self, run: RawRun, program: BundleProgram, protocol: Protocol, etdump: bool = False) -> Events:
        events = read_events(run, protocol, len(program.outputs), etdump=etdump)
        _check_program(run, events, program)
        return events

    def _load_of(self, run: RawRun, program: BundleProgram, protocol: Protocol) -> Events:
        events = read_load(run, protocol)
        _check_program(run, events, program)
        return events


def memory_protocol(protocol: Protocol) -> Protocol:
    """The protocol with one warm-up and two runs: by then a run has taken all the memory that it needs."""
    return _fixed(protocol, warmup=1, iterations=2)


def profile_protocol(protocol: Protocol, runs: int) -> Protocol:
    """The protocol with `runs` traced runs after its own number of warm-up runs."""
    return _fixed(protocol, warmup=protocol.warmup, iterations=runs)


def _fixed(protocol: Protocol, warmup: int, iterations: int) -> Protocol:
    return replace(
        protocol,
        warmup=warmup,
        iterations=iterations,
        min_seconds=0.0,
        confidence=None,
        max_iterations=None,
        max_seconds=None,
        cold_loads=0,
        memory_pass=False,
    )


def _check_program(run: RawRun, events: Events, program: BundleProgram) -> None:
    """Check that this program ran, and this method of it."""
    expected = {"method": program.method, "program_bytes": program.size_bytes}
    for what, value in expected.items():
        if events.load[what] != value:
            raise RunnerError(f"{run.device}: the runner loaded {what} {events.load[what]}, the bundle says {value}")


def _readings(run: RawRun, loads: list[Events], memory: Events, timed: Events) -> Readings:
    first_ns = timed.iterations[0]["start_ns"]
    return Readings(
        loads=[_load_ms(each.load) for each in [*loads, timed]],
        warmup_ms=[event["ns"] / 1e6 for event in timed.warmup],
        samples_ms=[event["ns"] / 1e6 for event in timed.iterations],
        outputs=_outputs(run, timed),
        starts_s=[(event["start_ns"] - first_ns) / 1e9 for event in timed.iterations],
        first_start_uptime_s=first_ns / 1e9,
        cpu_ms=[event["cpu_ns"] / 1e6 for event in timed.iterations],
        iterations=len(timed.iterations),
        stop=timed.done["stop"],
        memory=_memory(memory, timed),
        affinity=timed.load["affinity"] or None,
    )


def _load_ms(load: dict[str, Any]) -> dict[str, float]:
    return {"total": load["ns"] / 1e6, "program": load["program_ns"] / 1e6, "method": load["method_ns"] / 1e6}


def _outputs(run: RawRun, events: Events) -> list[OutputFile]:
    for event in events.outputs:
        if "/" in event["file"] or "\\" in event["file"]:
            raise RunnerError(f"{run.device}: the runner names a file outside its output folder: {event['file']!r}")
    return [
        OutputFile(run.output_dir / event["file"], event["dtype"], tuple(event["shape"])) for event in events.outputs
    ]


def _memory(events: Events, timed: Events) -> dict[str, int]:
    memory = {
        "peak_rss_bytes": events.done["peak_rss_kb"] * 1024,
        "minor_faults": events.done["minor_faults"],
        "major_faults": events.done["major_faults"],
        "program_bytes": events.load["program_bytes"],
        "involuntary_switches": timed.done["involuntary_switches"],
    }
    if events.done["pss_kb"] != UNKNOWN:
        memory["pss_bytes"] = events.done["pss_kb"] * 1024
    return memory
