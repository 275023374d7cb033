"""The rule for ending timed runs. `runner/stop_rule.h` holds the same rule, and this one checks what a runner did."""

from __future__ import annotations

from collections.abc import Sequence

from device_runner.protocol.protocol import Protocol
from device_runner.protocol.statistics import median_half_width

REASONS = ("count", "confidence", "max_iterations", "max_seconds")


def limit_reached(count: int, elapsed_ns: int, protocol: Protocol) -> str | None:
    """The reason to end runs after this count and time, whatever the samples are; None to go on."""
    if count < protocol.iterations or elapsed_ns < protocol.min_seconds * 1e9:
        return None
    if protocol.confidence is None:
        return "count"
    if protocol.max_iterations is not None and count >= protocol.max_iterations:
        return "max_iterations"
    if protocol.max_seconds is not None and elapsed_ns >= protocol.max_seconds * 1e9:
        return "max_seconds"
    return None


def stop_reason(samples_ns: Sequence[int], elapsed_ns: int, protocol: Protocol) -> str | None:
    """The reason to stop after these runs; None to go on.

    Args:
        elapsed_ns: from the start of the first run to the end of the last.
    """
    count = len(samples_ns)
    if count < protocol.iterations or elapsed_ns < protocol.min_seconds * 1e9:
        return None
    if protocol.confidence is not None and median_half_width(samples_ns) <= protocol.confidence:
        return "confidence"
    return limit_reached(count, elapsed_ns, protocol)


def wrong_stop(starts_ns: Sequence[int], samples_ns: Sequence[int], stop: str, protocol: Protocol) -> str | None:
    """The error in a runner's stopping after these runs for the reason it gives; None if there is none.

    A runner need not evaluate all samples after every run, so it may stop for `confidence` later than at the first
    chance; never earlier, and never past a limit.
    """
    count = len(samples_ns)
    if count < protocol.iterations:
        return f"{count} iteration instead of {protocol.iterations}"
    elapsed_ns = [start + ns - starts_ns[0] for start, ns in zip(starts_ns, samples_ns, strict=True)]
    if elapsed_ns[-1] < protocol.min_seconds * 1e9:
        return f"its timed runs took {elapsed_ns[-1] / 1e9:.3f} s, {protocol.min_seconds:g} s were asked for"
    reason = stop_reason(samples_ns, elapsed_ns[-1], protocol)
    if reason is None:
        return f"it stopped after {count} timed runs, before the median was known to {protocol.confidence:g}"
    if stop != reason:
        return f"it says that it stopped for {stop!r}, its samples say {reason!r}"
    if count > 1 and (earlier := limit_reached(count - 1, elapsed_ns[-2], protocol)) is not None:
        if earlier == "count" and not protocol.min_seconds:
            return f"{count} iteration instead of {protocol.iterations}"
        return f"its {count} timed runs are more than asked for: {earlier} was reached before the last"
    return None
