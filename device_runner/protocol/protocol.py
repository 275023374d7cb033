"""The settings of a measurement, which must be equal before two figures may be compared."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from device_runner.errors import RunnerError

LOAD_MODES = ("mmap", "file")
WEIGHT_CACHE = ("off", "on")
FIGURES = ("p50", "p90")
PHONE_TEMPERATURE_C = 37.0
"""Battery temperature in degrees Celsius above which the system will soon slow the processor down."""


@dataclass(frozen=True)
class Protocol:
    """Settings of one measurement.

    Timed runs go on until there are at least `iterations` of them and they took `min_seconds`. If `confidence` is set,
    they then go on until the median is known that well, or `max_iterations` or `max_seconds` is reached.

    Raises `RunnerError` for a value that no measurement can have.
    """

    name: str = "custom"
    warmup: int = 3
    """Runs before the timed ones, in the same process."""
    iterations: int = 20
    """Least number of timed runs; every sample is kept."""
    min_seconds: float = 0.0
    """Least time of the timed runs together."""
    confidence: float | None = None
    """Half-width of the median's 95 % confidence interval, as a share of the median, at which to stop."""
    max_iterations: int | None = None
    """Limits of the search for `confidence`; they never cut `iterations` or `min_seconds`."""
    max_seconds: float | None = None
    cold_loads: int = 0
    """Number of processes that only load the program, before the timed one: the load time is the median of all.

    The processes are fresh, but the file stays in the system's page cache: a load right after the device started takes
    longer.
    """
    memory_pass: bool = False
    """True to take the peak memory from a separate process, in which nothing is timed."""
    max_battery_c: float | None = None
    """Temperature to which the battery must cool before each program; None measures at once."""
    gate_timeout_s: float = 900.0
    """Time to wait for the battery to cool before the measurement is refused."""
    sample_state_s: float | None = None
    """Interval for noting temperatures and frequencies while the program runs; None for before and after only."""
    figure: str = "p50"
    """The percentile that represents the measurement in tables and comparisons."""
    threads: int = 2
    """Size of the runtime's thread pool; always given: ExecuTorch's automatic count is wrong on some machines."""
    cpu_mask: str | None = None
    """Cores to run on, as the hexadecimal mask that `taskset` takes ("f0": cores 4 to 7); None: all."""
    load_mode: str = "mmap"
    """`mmap` maps the program file, `file` reads it into memory."""
    weight_cache: str = "off"
    """`on` lets XNNPACK keep packed weights by name, as ExecuTorch's builds for Android and Apple do by default."""
    timeout_s: float = 1800.0
    """Time after which the runner is killed and the measurement refused."""

    def __post_init__(self) -> None:
        for field, least in (("warmup", 0), ("iterations", 1), ("threads", 1), ("cold_loads", 0)):
            self._check_whole(field, least)
        if self.max_iterations is not None:
            self._check_whole("max_iterations", self.iterations)
        for field in ("max_seconds", "sample_state_s", "max_battery_c", "confidence"):
            value = getattr(self, field)
            if value is not None and not 0 < value < math.inf:
                raise self._error(f"{field} must be positive and finite, not {value!r}")
        for field in ("timeout_s", "gate_timeout_s"):
            if not 0 < getattr(self, field) < math.inf:
                raise self._error(f"{field} must be positive and finite, not {getattr(self, field)!r}")
        if not 0 <= self.min_seconds < self.timeout_s:
            raise self._error(f"min_seconds must be from 0 to timeout_s ({self.timeout_s:g}), not {self.min_seconds!r}")
        if self.confidence is not None and self.max_iterations is None and self.max_seconds is None:
            raise self._error("confidence needs max_iterations or max_seconds, or a noisy device is measured for ever")
        if self.load_mode not in LOAD_MODES:
            raise self._error(f"load_mode must be {' or '.join(LOAD_MODES)}, not {self.load_mode!r}")
        if self.weight_cache not in WEIGHT_CACHE:
            raise self._error(f"weight_cache must be {' or '.join(WEIGHT_CACHE)}, not {self.weight_cache!r}")
        if self.figure not in FIGURES:
            raise self._error(f"figure must be {' or '.join(FIGURES)}, not {self.figure!r}")
        if self.cpu_mask is not None:
            if not (re.fullmatch("[0-9a-fA-F]{1,16}", self.cpu_mask) and int(self.cpu_mask, 16)):
                raise self._error(f"cpu_mask must be a hexadecimal mask of cores such as f0, not {self.cpu_mask!r}")
            # In one spelling, so that equal settings look equal in results.
            object.__setattr__(self, "cpu_mask", f"{int(self.cpu_mask, 16):x}")

    def _check_whole(self, field: str, least: int) -> None:
        value = getattr(self, field)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._error(f"{field} must be a whole number from {least}, not {value!r}")

    def _error(self, text: str) -> RunnerError:
        return RunnerError(f"protocol {self.name!r}: {text}")

    def to_json(self) -> dict[str, Any]:
        """All settings, as written to the results."""
        return asdict(self)


SUSTAINED_MINUTES = 5.0

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        # 50 timed runs are the least that TFLite's benchmark_model takes by default.
        Protocol(name="default", warmup=5, iterations=50),
        # 3 and 20 suffice for a median that repeats, and are few enough for programs that take seconds.
        Protocol(name="quick", warmup=3, iterations=20),
        # The battery at 37 C or less, the load as the median of 3, memory apart: the most careful published protocol
        # for phones. 50 runs are TFLite's least, and the median is to be known to 2 %.
        Protocol(
            name="thorough",
            warmup=3,
            iterations=50,
            confidence=0.02,
            max_iterations=2000,
            max_seconds=600,
            cold_loads=3,
            memory_pass=True,
            max_battery_c=PHONE_TEMPERATURE_C,
            sample_state_s=5,
            timeout_s=7200,
        ),
        # MLPerf inference, single stream: p90 of at least 1024 samples and 60 s.
        Protocol(
            name="mlperf-single-stream",
            warmup=3,
            iterations=1024,
            min_seconds=60,
            figure="p90",
            sample_state_s=5,
            timeout_s=4 * 3600,
        ),
        # Thirty minutes change the ranking of phones. The duration is an option; the first minute is compared with the
        # last.
        Protocol(
            name="sustained",
            warmup=3,
            iterations=1,
            min_seconds=60 * SUSTAINED_MINUTES,
            sample_state_s=5,
            timeout_s=60 * SUSTAINED_MINUTES + 600,
        ),
    )
}


def named_protocol(name: str) -> Protocol:
    """The protocol of that name; raises `RunnerError` listing the known ones if there is none."""
    if name not in PROTOCOLS:
        raise RunnerError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def sustained_for(minutes: float) -> Protocol:
    """The protocol `sustained` over that many minutes; at least two, so that its first is not its last."""
    if not 2 <= minutes <= 24 * 60:
        raise RunnerError(f"a sustained measurement takes from 2 minutes to a day, not {minutes:g} minutes")
    return replace(PROTOCOLS["sustained"], min_seconds=60 * minutes, timeout_s=60 * minutes + 600)
