"""How a program is measured: the settings that must be equal before two figures may be compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from device_runner.errors import RunnerError

LOAD_MODES = ("mmap", "file")


@dataclass(frozen=True)
class Protocol:
    """Settings of one measurement.

    Raises `RunnerError` for a value that no measurement can have.
    """

    name: str = "custom"
    warmup: int = 3
    """Runs before the timed ones, in the same process."""
    iterations: int = 20
    """Timed runs; every sample is kept."""
    threads: int = 2
    """Size of ExecuTorch's thread pool; always given: its automatic count is wrong on some machines."""
    load_mode: str = "mmap"
    """`mmap` maps the program file, `file` reads it into memory."""
    timeout_s: float = 1800.0
    """The runner is killed and the measurement refused after this long."""

    def __post_init__(self) -> None:
        for field, least in (("warmup", 0), ("iterations", 1), ("threads", 1)):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise self._error(f"{field} must be a whole number from {least}, not {value!r}")
        if self.load_mode not in LOAD_MODES:
            raise self._error(f"load_mode must be {' or '.join(LOAD_MODES)}, not {self.load_mode!r}")
        if not self.timeout_s > 0:
            raise self._error(f"timeout_s must be positive, not {self.timeout_s!r}")

    def _error(self, text: str) -> RunnerError:
        return RunnerError(f"protocol {self.name!r}: {text}")

    def to_json(self) -> dict[str, Any]:
        """All settings, as they go into the results."""
        return asdict(self)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        # 50 timed runs: the least that TFLite's benchmark_model takes by default.
        Protocol(name="default", warmup=5, iterations=50),
        # 3 and 20: enough for a median that repeats, few enough for programs that take seconds.
        Protocol(name="quick", warmup=3, iterations=20),
    )
}


def named_protocol(name: str) -> Protocol:
    """The protocol of that name; `RunnerError` lists the known ones."""
    if name not in PROTOCOLS:
        raise RunnerError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
