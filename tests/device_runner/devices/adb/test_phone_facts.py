"""What phones of several makers and Android versions say of themselves, through real shells."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device_runner.devices.adb import facts
from device_runner.devices.adb import state as adb_state
from device_runner.devices.adb.sections import batch, sections

# Beside this file, which pytest's importlib mode does not put on the path.
_spec = importlib.util.spec_from_file_location("phones", Path(__file__).with_name("phones.py"))
assert _spec is not None and _spec.loader is not None
phones = sys.modules.setdefault("phones", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(phones)

Phone = Callable[[str], Callable[[str], str]]


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    return lambda name: phones.play(name, tmp_path)


def test_a_recent_phone_is_described_by_its_makers_names(phone: Phone) -> None:
    told = facts.describe(phone("pixel8pro"))
    assert told["manufacturer"] == "Google" and told["model"] == "Pixel 8 Pro" and told["device"] == "husky"
    assert told["soc"] == "Google Tensor G3"
    assert told["system"] == "Android 14" and told["sdk"] == 34 and told["security_patch"] == "2024-08-05"
    assert told["fingerprint"].endswith(":user/release-keys")
    assert told["abis"] == ["arm64-v8a"]
    assert told["kernel"].startswith("5.15.137-android14")
    assert told["memory_bytes"] == 11852576 * 1024
    assert told["logical_cores"] == 9
    assert told["clusters"] == [
        {"cores": [0, 1, 2, 3], "max_khz": 1704000},
        {"cores": [4, 5, 6, 7], "max_khz": 2367000},
        {"cores": [8], "max_khz": 2914000},
    ]
    assert told["cpu"] == "4 x 1.70 GHz + 4 x 2.37 GHz + 1 x 2.91 GHz"


@pytest.mark.parametrize(
    ("name", "soc", "cpu"),
    [
        # Before Android 12 only the platform is known; "unknown" is no maker.
        ("galaxy_a52", "lito", "Qualcomm Technologies, Inc SM7225"),
        ("redmi_hot", "MT6893", "4 x 2.00 GHz + 3 x 2.60 GHz + 1 x 3.00 GHz"),
        ("nexus5x", "msm8992", "Qualcomm Technologies, Inc MSM8992"),
    ],
)
def test_the_chip_is_named_as_well_as_the_phone_can(phone: Phone, name: str, soc: str, cpu: str) -> None:
    told = facts.describe(phone(name))
    assert (told["soc"], told["cpu"]) == (soc, cpu)


def test_one_round_trip_each(tmp_path: Path) -> None:
    run, calls = phones.play("pixel8pro", tmp_path), []

    def shell(command: str) -> str:
        calls.append(command)
        return run(command)

    for ask in (facts.describe, facts.platform, adb_state.read_state):
        calls.clear()
        ask(shell)
        assert len(calls) == 1


def test_platforms(phone: Phone) -> None:
    pixel = facts.platform(phone("pixel8pro"))
    assert (pixel.system, pixel.abi, pixel.emulated) == ("android", "arm64-v8a", None)
    emulator = facts.platform(phone("emulator"))
    assert (emulator.system, emulator.abi) == ("android", "x86_64")
    assert emulator.emulated == "Android emulator (ro.boot.qemu is 1)"


X86_CPUINFO = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n"
ARM_CPUINFO = "processor\t: 0\nBogoMIPS\t: 100.00\nCPU implementer\t: 0x41\n"
UNDER_QEMU = "qemu user-mode emulation "


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "kernel_arch", "shell_exe", "emulated"),
    [
        # As seen in an arm64 root under qemu-user 7.2: every sign alone is enough, since newer ones hide some of them.
        (
            "aarch64",
            X86_CPUINFO,
            "",
            "",
            UNDER_QEMU + "(programs see aarch64, /proc/cpuinfo tells of an x86 processor)",
        ),
        ("aarch64", ARM_CPUINFO, "x86_64", "", UNDER_QEMU + "(programs see aarch64, the kernel runs on x86_64)"),
        (
            "aarch64",
            ARM_CPUINFO,
            "",
            "/usr/bin/qemu-aarch64-static",
            UNDER_QEMU + "(the shell is run by /usr/bin/qemu-aarch64-static)",
        ),
        ("x86_64", ARM_CPUINFO, "aarch64", "", UNDER_QEMU + "(programs see x86_64, the kernel runs on aarch64)"),
        (
            "x86_64",
            "vendor_id\t: GenuineIntel\nmodel name\t: QEMU TCG CPU version 2.5+\n",
            "x86_64",
            "/bin/dash",
            "emulated machine (its processor is called QEMU TCG CPU version 2.5+)",
        ),
        # qemu-user 10 shows a cpuinfo of its own.
        (
            "aarch64",
            "model name\t: ARMv8 Processor rev 0 (v8l)\nCPU implementer\t: 0x00\nCPU part\t: 0x051\n",
            "",
            "",
            "emulated processor (CPU implementer 0x00, which stands for software)",
        ),
        # A 32-bit system on a 64-bit kernel, and plain machines, are not emulated.
        ("armv8l", ARM_CPUINFO, "aarch64", "/system/bin/sh", None),
        ("i686", X86_CPUINFO, "x86_64", "/bin/dash", None),
        ("aarch64", ARM_CPUINFO, "aarch64", "/usr/bin/dash", None),
        ("x86_64", X86_CPUINFO, "cat: /proc/sys/kernel/arch: No such file or directory", "", None),
        ("riscv64", "processor\t: 0\nisa\t: rv64imafdc\n", "riscv64", "", None),
    ],
)
def test_emulation_is_seen(machine: str, cpuinfo: str, kernel_arch: str, shell_exe: str, emulated: str | None) -> None:
    answers = {"uname": machine, "cpuinfo": cpuinfo, "kernel_arch": kernel_arch, "shell_exe": shell_exe}
    output = "".join(f"\n@mobilevd:{name}\n{text}" for name, text in answers.items())
    platform = facts.platform(lambda command: output)
    assert platform.emulated == emulated
    assert platform.system == "linux"


def test_this_machine_is_a_linux_device_without_getprop() -> None:
    import subprocess

    def shell(command: str) -> str:
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True).stdout

    told, platform, state = facts.describe(shell), facts.platform(shell), adb_state.read_state(shell)
    assert platform.system == "linux"
    assert platform.abi in ("x86_64", "arm64-v8a")
    assert told["memory_bytes"] > 1 << 28 and told["logical_cores"] >= 1 and told["abis"] == [platform.abi]
    assert "sdk" not in told
    assert state["uptime_s"] > 0 and state["memory_available_bytes"] > 0 and len(state["load_average"]) == 3


def test_only_temperatures_are_temperatures(phone: Phone) -> None:
    """Volts, milliamperes and percent, which a Pixel lists beside them, are left out, and so is what is remembered."""
    state = adb_state.read_state(phone("pixel8pro"))
    assert state["temperatures_c"] == {
        "TPU": 25.0,
        "G3D": 26.0,
        "BIG": 26.0,
        "LITTLE": 27.0,
        "MID": 27.0,
        "VIRTUAL-SKIN": 24.83,
        "battery": 22.1,
    }
    assert state["thermal_status"] == 0
    assert (state["battery_c"], state["battery_percent"], state["charging"]) == (22.1, 87.0, True)
    assert state["battery_saver"] is False and state["awake"] is True
    assert state["load_average"] == [1.52, 1.33, 1.2]
    assert state["governors"] == ["sched_pixel"] * 9
    assert state["frequencies_khz"] == [324000] * 4 + [402000] * 4 + [500000]
    assert state["max_frequencies_khz"] == [1704000] * 4 + [2367000] * 4 + [2914000]
    assert state["memory_available_bytes"] == 6291456 * 1024
    assert state["uptime_s"] == 86523.17


def test_sensors_that_are_not_there_read_nothing(phone: Phone) -> None:
    state = adb_state.read_state(phone("galaxy_a52"))
    assert state["temperatures_c"] == {"AP": 25.6, "BAT": 23.8, "LRB": 24.7, "PA": 25.7}
    assert len(state["frequencies_khz"]) == 7, "one core is offline"
    assert (state["battery_percent"], state["charging"], state["battery_saver"]) == (14.0, False, True)
    assert state["awake"] is False, "the maker prints the call in place of the field"


def test_a_hot_phone_says_so(phone: Phone) -> None:
    state = adb_state.read_state(phone("redmi_hot"))
    assert state["thermal_status"] == 3 and state["awake"] is False
    assert state["temperatures_c"]["skin"] == 51.0, "the current value, not the cached 45.2"
    assert state["battery_c"] == 40.4
    assert state["charging"] is False, "status 4 is not charging, although a charger is connected"
    assert state["max_frequencies_khz"][4:] == [1335000, 1335000, 1335000, 1281000]


def test_before_android_10_the_kernels_zones_speak(phone: Phone) -> None:
    """Whole degrees and thousandths in one phone, a doubled name, an absent sensor; CR LF; denied files."""
    state = adb_state.read_state(phone("nexus5x"))
    assert state["temperatures_c"] == {"tsens_tz_sensor0": 34.0, "tsens_tz_sensor0.2": 36.0, "battery": 30.5}
    assert state["thermal_status"] is None
    assert (state["battery_c"], state["charging"], state["battery_saver"]) == (30.5, True, None)
    assert state["awake"] is None
    assert state["load_average"] == []


def test_a_phone_without_a_battery_tells_none(phone: Phone) -> None:
    state = adb_state.read_state(phone("emulator"))
    assert (state["battery_c"], state["battery_percent"], state["charging"]) == (None, None, None)
    assert state["temperatures_c"] == {}


def test_error_texts_never_become_facts_or_numbers(phone: Phone) -> None:
    shell = phone("refusing")
    assert facts.describe(shell) == {"logical_cores": 1}
    platform = facts.platform(shell)
    assert (platform.system, platform.abi, platform.emulated) == ("linux", "unknown", None)
    state = adb_state.read_state(shell)
    del state["time"]
    assert all(value in (None, [], {}) for value in state.values()), state
    assert adb_state.parse_series(shell(adb_state.sampler_script())) == []


@pytest.mark.parametrize(
    "output", ["", "\n", "garbage", "@mobilevd:sample\nuptime=1.0\tend", "@mobilevd:props", "\0\t"]
)
def test_nothing_or_half_an_answer_is_no_error(output: str) -> None:
    assert adb_state.read_state(lambda command: output)["battery_c"] is None
    assert isinstance(facts.describe(lambda command: output), dict)
    assert facts.platform(lambda command: output).system == "linux"


@pytest.mark.parametrize("shell", phones.shells(), ids=lambda command: command[0])
def test_the_sampler_runs_in_every_shell_again_and_again(tmp_path: Path, shell: list[str]) -> None:
    run = phones.play("pixel8pro", tmp_path, shell)
    # As strict as a shell can be: an unset variable or a failed read ends it.
    log = run(f"set -eu\nfor i in 1 2 3; do\n{adb_state.sampler_script()}\ndone")
    assert len(log.splitlines()) == 3, "one line a sample"
    samples = adb_state.parse_series(log)
    assert len(samples) == 3
    for sample in samples:
        assert sample["uptime_s"] == 86523.17
        assert sample["thermal_status"] == 0 and sample["battery_c"] == 22.1
        assert sample["temperatures_c"]["VIRTUAL-SKIN"] == 24.83
        assert sample["frequencies_khz"][8] == 500000 and sample["max_frequencies_khz"][8] == 2914000


def test_the_sampler_in_bare_surroundings(tmp_path: Path) -> None:
    """No dumpsys, nothing in /sys: still one whole line."""
    run = phones.play("emulator", tmp_path)
    (tmp_path / "bin/dumpsys").unlink()
    (sample,) = adb_state.parse_series(run(f"set -eu\n{adb_state.sampler_script()}"))
    assert sample["uptime_s"] == 93.21
    assert sample["battery_c"] is None and sample["thermal_status"] is None and sample["temperatures_c"] == {}


def test_a_log_that_was_cut_off_keeps_its_whole_lines(phone: Phone) -> None:
    shell = phone("pixel8pro")
    log = shell(adb_state.sampler_script()) * 3
    for cut in range(0, len(log), 7):
        samples = adb_state.parse_series(log[:cut])
        assert len(samples) == log[:cut].count("\tend")
        assert all(math.isclose(sample["uptime_s"], 86523.17) for sample in samples)


def test_answers_are_told_apart_whatever_they_print() -> None:
    import subprocess

    commands = {"first": "printf 'no newline'", "second": "exit_code_of_nothing_42", "third": "echo a; echo; echo b"}
    output = subprocess.run(["sh", "-c", batch(commands)], capture_output=True, text=True).stdout
    assert sections(output) == {"first": "no newline", "second": "", "third": "a\n\nb"}
