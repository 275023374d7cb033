"""Builds reports as `mobilevd bench` writes them, with made-up samples."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from device_runner.protocol.protocol import Protocol, named_protocol
from device_runner.protocol.statistics import percentile, summarize

CREATED = "2026-03-01T12:00:00+00:00"
PHONE = {
    "name": "adb:R58M123",
    "kind": "adb",
    "platform": {"system": "android", "abi": "arm64-v8a", "emulated": None},
    "model": "Pixel 8 Pro",
    "soc": "Tensor G3",
    "cpu": "Cortex-X3, 4 Cortex-A715, 4 Cortex-A510",
    "logical_cores": 9,
    "memory_bytes": 12 * 2**30,
    "fingerprint": "google/husky/husky:15/AP4A.250205.002/12821496:user/release-keys",
    "system": "Android 15",
    "kernel": "5.15.153-android14",
}
HOST = {
    "name": "host",
    "kind": "host",
    "platform": {"system": "linux", "abi": "x86_64", "emulated": None},
    "model": None,
    "cpu": "AMD EPYC 9R14",
    "logical_cores": 2,
    "usable_cores": 2,
    "memory_bytes": 16 * 2**30,
    "system": "Debian GNU/Linux 12",
    "kernel": "6.1.0",
}
EMULATED = {
    **PHONE,
    "name": "adb:qemu",
    "model": "qemu",
    "platform": {"system": "linux", "abi": "arm64-v8a", "emulated": "qemu-user"},
}


def latencies(seed: int, n: int, median_ms: float, noise: float = 0.03) -> list[float]:
    """Lognormal, as skewed as latencies are."""
    drawn = np.random.default_rng(seed).lognormal(sigma=noise, size=n)
    return [float(value) for value in median_ms * drawn]


def state(uptime_s: float | None = 5000.0, temperature_c: float = 31.0, khz: int = 2_900_000) -> dict[str, Any]:
    return {
        "time": CREATED,
        "uptime_s": uptime_s,
        "load_average": [0.5, 0.4, 0.3],
        "governors": ["sched_pixel"] * 9,
        "frequencies_khz": [khz // 2] * 4 + [khz * 4 // 5] * 4 + [khz],
        "max_frequencies_khz": [1_704_000] * 4 + [2_367_000] * 4 + [2_914_000],
        "thermal_status": 0 if temperature_c < 38 else 2,
        "temperatures_c": {"BIG": temperature_c + 12, "LITTLE": temperature_c + 8, "skin": temperature_c, "gpu": 33.0},
        "battery_c": temperature_c - 1,
        "battery_percent": 81.0,
        "charging": True,
        "memory_available_bytes": 5 * 2**30,
    }


def bare_state() -> dict[str, Any]:
    """Of a device that tells nothing."""
    return {
        "time": CREATED,
        "uptime_s": None,
        "load_average": [0.1, 0.1, 0.1],
        "governors": [],
        "frequencies_khz": [],
        "max_frequencies_khz": [],
        "thermal_status": None,
        "temperatures_c": {},
        "battery_c": None,
        "battery_percent": None,
        "charging": None,
        "memory_available_bytes": None,
    }


def measurement(
    samples_ms: list[float] | None = None,
    *,
    bundle: str = "tiny",
    precision: str = "int8-dynamic",
    target: str = "executorch-xnnpack",
    program: str = "unet",
    device: dict[str, Any] | None = None,
    protocol: Protocol | str = "quick",
    runner: str = "mobilevd",
    average_ms: float | None = None,
    **other: Any,
) -> dict[str, Any]:
    """A measurement of these samples (20 made-up ones); `other` replaces keys."""
    if isinstance(protocol, str):
        protocol = named_protocol(protocol)
    device = device or PHONE
    emulated = device["platform"]["emulated"] is not None
    samples = [] if emulated or average_ms is not None else samples_ms or latencies(2, 20, 42.0)
    summary: dict[str, float] | None = None
    figure: dict[str, Any] | None = None
    if samples:
        summary = {**summarize(samples), "first": samples[0] * 1.4}
        figure = {"name": protocol.figure, "ms": percentile(samples, int(protocol.figure[1:]))}
    elif average_ms is not None:
        summary, figure = {"n": protocol.iterations, "mean": average_ms}, {"name": "mean", "ms": average_ms}
    loads = [] if emulated else [{"total": 120.5, "program": 20.25, "method": 100.25}]
    starts = [float(value) / 1000 for value in np.cumsum([0.0, *samples[:-1]])] if samples else []
    knows_state = device["kind"] == "adb"
    return {
        "bundle": {
            "name": bundle,
            "sha256": "ab" * 32,
            "target": target,
            "precision": precision,
            "tools": {"executorch": "1.5.1"},
        },
        "program": program,
        "method": "forward",
        "device": device,
        "runner": {
            "name": runner,
            "versions": {"executorch": "1.5.1", "compiler": "clang 19.0.1"},
            "form": "ndk" if device["kind"] == "adb" else "host",
            "affinity": f"{2 ** device['logical_cores'] - 1:x}",
        },
        "protocol": protocol.to_json(),
        "date": CREATED,
        "emulated": emulated,
        "samples_ms": samples,
        "starts_s": starts,
        "cpu_ms": [2 * value for value in samples],
        "warmup_ms": [samples[0] * 1.4, samples[0] * 1.1] if samples else [],
        "average_ms": average_ms,
        "first_start_uptime_s": 5010.0 if knows_state and samples else None,
        "summary": summary,
        "figure": figure,
        "loads_ms": loads,
        "load_ms": statistics.median(load["total"] for load in loads) if loads else None,
        "sustained": None,
        "stop": "count",
        "memory": {"peak_rss_bytes": 412 * 2**20},
        "outputs": [{"name": "sample", "psnr_db": 61.25, "min_psnr_db": 35.0, "max_abs_error": 0.0021}],
        "state_before": state() if knows_state else bare_state(),
        "state_after": state(5030.0, 33.5) if knows_state else bare_state(),
        "series": [],
        "transfer": {"pushed_bytes": 31_000_000, "push_s": 0.4, "kept_bytes": 0, "taken_up": False},
        "warnings": [],
        "notes": [],
        "versions": {"adb": "36.0.0", "mobilevd": "0.1.0"},
        "profile": None,
        **other,
    }


def sustained(minutes: float = 5, period_s: float = 0.3, seed: int = 1, **other: Any) -> dict[str, Any]:
    """A phone that slows down by a fifth after two minutes."""
    n = int(60 * minutes / period_s)
    at_s = np.arange(n) * period_s
    slower = 1 + 0.2 / (1 + np.exp(-(at_s - 130) / 8))
    samples = [float(value) for value in np.array(latencies(seed, n, 1000 * period_s)) * slower]
    series = [
        state(5005.0 + second, 31 + 9 * (1 - 2.7 ** (-second / 80)), 2_900_000 if second < 135 else 2_300_000)
        for second in range(0, int(60 * minutes) + 60, 5)
    ]
    return measurement(
        samples,
        protocol="sustained",
        series=series,
        sustained={"first_minute_ms": 300.1, "last_minute_ms": 360.4, "ratio": 1.2, "throttled_after_s": 127.0},
        state_after=state(5400.0, 40.0, 2_300_000),
        warnings=["throttled: the last minute takes 1.20 times as long as the first; slower from 127 s on"],
        **other,
    )


def clip(bundle: str = "tiny", device: str = "adb:R58M123", emulated: bool = False) -> dict[str, Any]:
    programs = [("image_encoder", 1, 18.5), ("vae_encoder", 1, 55.0), ("unet", 1, 42.0), ("vae_decoder", 14, 31.0)]
    total = sum(runs * ms for _, runs, ms in programs)
    return {
        "bundle": bundle,
        "sha256": "ab" * 32,
        "target": "executorch-xnnpack",
        "precision": "fp32",
        "device": device,
        "emulated": emulated,
        "frames": 14,
        "fps": 7,
        "figure": None if emulated else "p50",
        "programs": [{"name": name, "runs": runs, "ms": None if emulated else ms} for name, runs, ms in programs],
        "total_ms": None if emulated else total,
        "ms_per_frame": None if emulated else total / 14,
    }


def profile() -> dict[str, Any]:
    """As a trace of a small UNet reads: 12 ms, of which 9 in operators."""

    def rows(key: str, *times: tuple[str, float, int]) -> list[dict[str, Any]]:
        return [{key: name, "ms": ms, "share": ms / 12, "count": count} for name, ms, count in times]

    return {
        "runs": 3,
        "total_ms": 12.0,
        "outside_delegate_share": 0.0,
        "by_block": rows("block", ("up_blocks.1", 6.0, 300), ("mid_block", 3.0, 90)),
        "by_block_reason": None,
        "by_part": rows("part", ("residual block, spatial", 7.0, 250), ("temporal attention", 2.0, 140)),
        "by_operator": rows("operator", ("Convolution (NHWC, F32) IGEMM", 5.0, 40), ("Softmax (NC, F32)", 1.0, 9)),
        "operators": 390,
        "unaccounted_ms": 3.0,
    }


def failure(error: str = "adb:R58M123: the device is offline", program: str | None = "unet") -> dict[str, Any]:
    return {"bundle": "tiny", "device": "adb:R58M123", "program": program, "error": error}


def report(*measurements: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {
        "schema_version": 2,
        "kind": "mobilevd-bench",
        "created": CREATED,
        "measurements": list(measurements),
        "clips": [],
        "failures": [],
        **other,
    }
