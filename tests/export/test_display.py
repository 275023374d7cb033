"""The lines under an export's table: what was shown beside the run on this processor."""

from __future__ import annotations

from device_runner.bundle.manifest import BuildCheck, HalfEntry, MagnitudeEntry, ParityEntry
from export.display import proof_lines


def test_half_precision_names_the_largest_value_and_the_layer_that_overflows() -> None:
    largest = (MagnitudeEntry("conv_in", 70123.0), MagnitudeEntry("conv_out", 3.0))
    half = HalfEntry(arithmetic="rounded", psnr_db=12.34, largest=largest, overflow="conv_in")
    (line,) = proof_lines(ParityEntry(half=half))
    assert line == (
        "in true half precision 12.3 dB, a value beyond half precision in conv_in; "
        "the largest value is 7.01e+04, of conv_in"
    )


def test_the_worst_build_counts() -> None:
    builds = (
        BuildCheck(load_mode="mmap", weight_cache="off", psnr_db=120.0),
        BuildCheck(load_mode="file", weight_cache="on", psnr_db=101.26),
    )
    (line,) = proof_lines(ParityEntry(builds=builds))
    assert line == ("in applications' builds of the runtime 101.3 dB or more (mmap with cache off, file with cache on)")


def test_what_was_not_tried_is_told_with_the_reason() -> None:
    (line,) = proof_lines(ParityEntry(builds_reason="not tried: no compiler"))
    assert line == "applications' builds of the runtime: not tried: no compiler"
    assert not list(proof_lines(ParityEntry()))
