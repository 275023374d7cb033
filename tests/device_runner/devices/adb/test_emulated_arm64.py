"""A genuine adbd for arm64 under user-mode emulation: outputs must be right, and no time of it is ever a latency."""

import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from device_runner.measure.measure import measure
from device_runner.protocol.protocol import Protocol
from device_runner.runners.deployment import glibc_deployment
from device_runner.runners.mobilevd import MobilevdRunner
from tests.device_runner.devices.adb.conftest import Phone
from tests.device_runner.devices.adb.world import ADBD, Missing

QEMU = "qemu-aarch64-static"
PACKAGES = "adbd,dash,coreutils,util-linux,sed,grep"
# An ELF file of 64 bits, little-endian, for aarch64; F: the interpreter is opened when this is registered.
MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
SHORT = Protocol(warmup=1, iterations=3, cold_loads=1, threads=1, sample_state_s=0.2)


def arm64_root() -> Path:
    """A Debian root for arm64, made once: packages are unpacked and nothing of them is run."""
    root = Path.home() / ".cache" / "mobilevd-tests" / "adbd-trixie-arm64"
    if not root.exists():
        if not shutil.which("mmdebstrap"):
            raise Missing("mmdebstrap is not installed, so no root for arm64 can be made")
        part = root.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        options = ["--variant=extract", "--architectures=arm64", "--skip=check/qemu", f"--include={PACKAGES}"]
        made = subprocess.run(["mmdebstrap", *options, "trixie", str(part)], capture_output=True, text=True)
        if made.returncode:
            raise Missing(f"mmdebstrap cannot make a root for arm64: {made.stderr.strip()[-300:]}")
        for name in ("bin", "lib", "sbin"):
            (part / name).symlink_to(f"usr/{name}")
        for name in ("proc", "sys", "dev", "data", "tmp", "run"):
            (part / name).mkdir(exist_ok=True)
        part.rename(root)
    if not (root / ADBD).exists():
        raise Missing(f"{root} has no {ADBD}")
    return root


@pytest.fixture
def arm64_phone(make_phone: Callable[..., Phone]) -> Phone:
    qemu = shutil.which(QEMU)
    if platform.machine() != "x86_64" or qemu is None:
        pytest.skip(f"needs an x86-64 machine with {QEMU}")
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if release < (6, 7):
        pytest.skip(f"Linux {platform.release()} has one binfmt_misc for all namespaces; 6.7 is needed")
    try:
        return make_phone("adb-36", root=arm64_root(), binfmt=f":arm64:M::{MAGIC}:{MASK}:{qemu}:F")
    except Missing as missing:
        pytest.skip(f"no emulated arm64 device: {missing}")


def test_outputs_are_right_and_no_time_is_kept(arm64_phone: Phone, arm64_cache: Path, bundle: Path) -> None:
    assert arm64_phone.sh("uname -m").strip() == "aarch64"
    seen = arm64_phone.device.platform()
    assert seen.system == "linux" and seen.abi == "arm64-v8a" and seen.emulated
    runner = MobilevdRunner(glibc_deployment(seen.abi, arm64_cache))
    result = measure(bundle, arm64_phone.device, SHORT, runner=runner)
    assert result.emulated and result.device["platform"]["emulated"] == seen.emulated
    assert result.outputs[0]["psnr_db"] is None or result.outputs[0]["psnr_db"] >= 100
    assert result.outputs[0]["max_abs_error"] < 1e-5
    assert not (result.samples_ms or result.warmup_ms or result.loads_ms or result.cpu_ms or result.starts_s)
    assert result.summary is None and result.figure is None and result.average_ms is None
