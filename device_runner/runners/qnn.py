"""ExecuTorch's `qnn_executor_runner`: runs programs on the Hexagon processor of a Snapdragon; gives averages only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from device_runner.bundle.read import BundleProgram
from device_runner.devices.job import FILES, OUT, Platform, RawRun, Step
from device_runner.errors import RunnerError
from device_runner.protocol.protocol import Protocol
from device_runner.runners.base import RUNNER, OutputFile, Readings, input_name, program_name
from device_runner.runners.executorch_log import (
    check_method,
    identity,
    marker_of,
    messages,
    only_match,
    refuse_what_a_fixed_count_cannot_do,
    wrapped,
)

FILE = "qnn_executor_runner"
ROOT = "QNN_SDK_ROOT"
ANDROID_LIBRARIES = "lib/aarch64-android"
BACKEND = "libqnn_executorch_backend.so"
GENERAL = ("libQnnHtp.so", "libQnnHtpPrepare.so", "libQnnSystem.so")
INPUT_LIST = "input_list.txt"
# Folders of a phone maker's files for the signal processor; they are searched after the runner's own folder.
DSP_FOLDERS = ("/vendor/dsp/cdsp", "/vendor/lib/rfsa/adsp", "/system/lib/rfsa/adsp", "/vendor/dsp")


class QnnRunner:
    """`qnn_executor_runner`, built by the user for Android, beside Qualcomm's libraries from the SDK.

    The library on the Hexagon (Skel) and its counterpart (Stub) differ by the Hexagon's version: the pairs of every
    version that the SDK has are pushed, and the phone loads the one that fits.
    """

    name = "qnn_executor_runner"
    targets = frozenset({"executorch-qnn"})

    def __init__(self, path: Path | str, platform: Platform, sdk: Path | str | None = None) -> None:
        self.path, self.platform = Path(path), platform
        self.sdk = Path(sdk or os.environ.get(ROOT, ""))
        if not self.path.is_file():
            raise RunnerError(
                f"{self.path}: there is no {FILE}; name the program that ExecuTorch's "
                "backends/qualcomm/scripts/build.sh made"
            )
        if platform.system != "android" or platform.abi != "arm64-v8a":
            raise RunnerError(f"{self.name} runs on Android on arm64-v8a, not on {platform.system} on {platform.abi}")
        if sdk is None and not os.environ.get(ROOT):
            raise RunnerError(
                f"{self.name} needs Qualcomm's libraries, and {ROOT} is not set; set it to the folder of Qualcomm AI "
                "Engine Direct that holds include/ and lib/"
            )

    def files(self) -> Mapping[str, Path]:
        libraries = self.sdk / ANDROID_LIBRARIES
        files = {FILE: self.path, BACKEND: self._backend()}
        files |= {name: libraries / name for name in GENERAL}
        pairs = 0
        for stub in sorted(libraries.glob("libQnnHtpV*Stub.so")):
            version = re.fullmatch(r"libQnnHtpV(\d+)Stub\.so", stub.name)
            skel = self.sdk / f"lib/hexagon-v{version[1]}/unsigned/libQnnHtpV{version[1]}Skel.so" if version else None
            if skel is not None and skel.is_file():
                files |= {stub.name: stub, skel.name: skel}
                pairs += 1
        missing = [str(path) for path in files.values() if not path.is_file()]
        if not pairs:
            missing.append(f"{libraries}/libQnnHtpV*Stub.so with its Skel in {self.sdk}/lib/hexagon-v*/unsigned")
        if missing:
            raise RunnerError(f"{self.name}: {missing[0]} is missing; {ROOT} is {self.sdk}")
        return files

    def executables(self) -> frozenset[str]:
        return frozenset({FILE})

    def versions(self) -> dict[str, str]:
        # The SDK's folder is named by its version: qairt/2.37.0.250724.
        return {"qnn_executor_runner": identity(self.path), "qnn_sdk": self.sdk.resolve().name}

    def steps(self, program: BundleProgram, protocol: Protocol) -> list[Step]:
        refuse_what_a_fixed_count_cannot_do(self.name, protocol)
        place = f"{FILES}/{RUNNER}"
        command = [
            f"{place}/{FILE}",
            f"--model_path={FILES}/{program_name(program)}",
            f"--input_list_path={OUT}/{INPUT_LIST}",
            f"--output_folder_path={OUT}",
            f"--etdump_path={OUT}/etdump.etdp",
            f"--warm_up={protocol.warmup}",
            f"--iteration={protocol.iterations}",
        ]
        # One line per run, with the names separated by blanks. A path may hold blanks itself, so only names are listed,
        # and the runner's working folder is that of the files.
        names = " ".join(input_name(index) for index in range(len(program.inputs)))
        before = f'echo "{names}" > "$MOBILEVD_OUT/{INPUT_LIST}"'
        environment = {
            "MOBILEVD_OUT": OUT,
            "LD_LIBRARY_PATH": place,
            # The separator is `;`, not `:`.
            "ADSP_LIBRARY_PATH": ";".join((place, *DSP_FOLDERS)),
        }
        marker = marker_of(self.name, program, protocol)
        outputs = tuple(f"output_0_{index}.raw" for index in range(len(program.outputs)))
        return [Step("timed", wrapped(command, FILES, self.platform, marker, before), outputs, environment)]

    def read(self, runs: Mapping[str, RawRun], program: BundleProgram, protocol: Protocol) -> Readings:
        run = runs["timed"]
        log = messages(run, marker_of(self.name, program, protocol))
        check_method(run, log, program)
        warmup = int(only_match(run, log, r"Perform (\d+) inference for warming up", "how often it warmed up")[1])
        found = only_match(run, log, r"(\d+) inference took ([\d.]+) ms, avg ([\d.]+) ms", "how long its runs took")
        count, total_ms = int(found[1]), float(found[2])
        if (warmup, count) != (protocol.warmup, protocol.iterations):
            raise RunnerError(
                f"{run.device}: asked for {protocol.warmup} warm-up and {protocol.iterations} timed runs, the runner "
                f"reports {warmup} and {count}"
            )
        if not total_ms > 0:
            raise RunnerError(f"{run.device}: {count} runs took no time at all; the device's clock cannot be trusted")
        return Readings(
            loads=[],
            warmup_ms=[],
            samples_ms=[],
            outputs=[OutputFile(run.output_dir / f"output_0_{index}.raw") for index in range(len(program.outputs))],
            average_ms=total_ms / count,
            iterations=count,
            notes=[
                f"{self.name} tells the average of its timed runs only: no percentiles, no load time, no memory; it sets "
                "its inputs once, so copying them is not in the time",
            ],
        )

    def _backend(self) -> Path:
        """ExecuTorch's own library for the Hexagon: beside the runner, or where its build leaves it."""
        beside = self.path.with_name(BACKEND)
        if beside.is_file():
            return beside
        # BUILD/examples/qualcomm/executor_runner/qnn_executor_runner
        parents = self.path.resolve().parents
        built = parents[3] / "backends" / "qualcomm" / BACKEND if len(parents) > 3 else beside
        return built if built.is_file() else beside
