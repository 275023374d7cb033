"""Comparing reports: what is paired, what is refused, what is printed; the verdicts' statistics."""

import copy
import io
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import scipy.stats
from rich.console import Console
from typer.testing import CliRunner

from device_runner.errors import RunnerError
from device_runner.protocol.protocol import named_protocol
from device_runner.protocol.statistics import percentile
from device_runner.results.compare import Comparison, compare, judge
from device_runner.results.comparison_table import print_comparison
from device_runner.results.resampling import ratio_interval, resampled_percentiles
from device_runner.results.same_run import check_different_runs
from device_runner.results.schema import read_report
from mobilevd.cli import app
from tests.device_runner.results import reports


def of_samples(*samples: list[float], **other: Any) -> dict[str, Any]:
    """A report with a program per list of samples."""
    return reports.report(*(reports.measurement(each, program=f"p{i}", **other) for i, each in enumerate(samples)))


@pytest.mark.parametrize(("n", "p"), [(1, 50), (2, 50), (7, 90), (20, 50), (20, 90), (101, 50), (50, 100)])
def test_resampled_percentiles_are_those_of_whole_resamples(n: int, p: int) -> None:
    samples = reports.latencies(n, n, 40.0, 0.2)
    rng = np.random.default_rng(1)
    quick = resampled_percentiles(samples, p, rng, 20_000)
    whole = np.percentile(rng.choice(samples, size=(20_000, n)), p, axis=1)
    assert quick.mean() == pytest.approx(whole.mean(), rel=2e-3)
    assert quick.std() == pytest.approx(whole.std(), rel=0.03)
    np.testing.assert_allclose(np.quantile(quick, [0.1, 0.5, 0.9]), np.quantile(whole, [0.1, 0.5, 0.9]), rtol=0.01)


def test_a_slowdown_of_a_tenth_is_always_found_and_its_reverse_too() -> None:
    before = [reports.latencies(seed, 50, 42.0) for seed in range(200)]
    after = [reports.latencies(1000 + seed, 50, 42.0 * 1.1) for seed in range(200)]
    slower = compare(of_samples(*before), of_samples(*after))
    assert [pair.verdict for pair in slower.pairs] == ["regression"] * 200 and slower.regressed
    faster = compare(of_samples(*after), of_samples(*before))
    assert [pair.verdict for pair in faster.pairs].count("improvement") >= 190  # 1 / 1.1 is 9 % less only
    assert not faster.regressed


@pytest.mark.parametrize("noise", [0.03, 0.3])
def test_without_a_difference_regressions_are_rarer_than_alpha(noise: float) -> None:
    """Three conditions must hold at once, so that less than `alpha` of 200 pass: 2 at most."""
    before = [reports.latencies(seed, 50, 42.0, noise) for seed in range(200)]
    after = [reports.latencies(1000 + seed, 50, 42.0, noise) for seed in range(200)]
    verdicts = [pair.verdict for pair in compare(of_samples(*before), of_samples(*after)).pairs]
    assert verdicts.count("regression") + verdicts.count("improvement") <= 2
    expected = "same" if noise == 0.03 else "undecided"
    assert verdicts.count(expected) >= 150


def test_the_interval_holds_the_ratio_as_often_as_it_says() -> None:
    """The percentile bootstrap is a little too narrow for few samples; at 95 % and 50 samples by little."""
    held = 0
    for seed in range(200):
        a, b = reports.latencies(seed, 50, 40.0, 0.1), reports.latencies(500 + seed, 50, 50.0, 0.1)
        low, high = ratio_interval(a, b, 50, 0.05)
        held += low <= 50 / 40 <= high
    assert 0.91 <= held / 200 <= 0.99


def test_the_same_files_are_judged_the_same_every_time() -> None:
    a, b = of_samples(reports.latencies(1, 20, 42.0)), of_samples(reports.latencies(2, 20, 43.0))
    assert compare(a, b).to_json() == compare(a, b).to_json()


def test_the_figure_and_its_ratio_are_of_the_protocol() -> None:
    a, b = reports.latencies(1, 200, 42.0), reports.latencies(2, 200, 42.0, 0.2)
    protocol = "mlperf-single-stream"
    pair = compare(of_samples(a, protocol=protocol), of_samples(b, protocol=protocol)).pairs[0]
    assert pair.figure == "p90" and pair.a_ms == percentile(a, 90)
    assert pair.ratio == percentile(b, 90) / percentile(a, 90) > 1.15
    assert pair.ratio_low is not None and pair.ratio_high is not None and pair.p_value is not None
    assert pair.ratio_low < pair.ratio < pair.ratio_high
    # The medians are equal, so that the ranks are no proof; the p90's interval alone does not decide.
    assert pair.p_value > 0.01 and pair.verdict == "undecided"


@pytest.mark.parametrize(
    ("ratio", "low", "high", "p", "verdict"),
    [
        (1.10, 1.06, 1.14, 0.001, "regression"),
        (1.06, 1.02, 1.09, 0.001, "regression"),
        (1.04, 1.03, 1.045, 0.001, "same"),
        (1.04, 1.01, 1.08, 0.001, "undecided"),
        (1.10, 1.06, 1.14, 0.02, "undecided"),
        (1.10, 0.99, 1.20, 0.001, "undecided"),
        (0.90, 0.86, 0.94, 0.001, "improvement"),
        (0.90, 0.80, 1.01, 0.001, "undecided"),
        (0.90, 0.86, 0.94, 0.02, "undecided"),
        (1.00, 0.97, 1.03, 0.900, "same"),
    ],
)
def test_verdicts(ratio: float, low: float, high: float, p: float, verdict: str) -> None:
    assert judge(ratio, low, high, p, 0.05, 0.01) == verdict


def test_equal_samples_are_the_same() -> None:
    pair = compare(of_samples([5.0] * 20), of_samples([5.0] * 20)).pairs[0]
    assert (pair.ratio, pair.p_value, pair.verdict) == (1, 1, "same")


def test_three_samples_prove_nothing() -> None:
    pair = compare(of_samples([10.0, 10.1, 10.2]), of_samples([20.0, 20.1, 20.2])).pairs[0]
    assert (pair.verdict, pair.ratio_low, pair.p_value) == ("too few", None, None)


def test_pairs_by_bundle_program_and_device_and_lists_the_rest() -> None:
    a = reports.report(
        reports.measurement(bundle="x"),
        reports.measurement(bundle="y"),
        reports.measurement(bundle="x", device=reports.HOST),
    )
    b = reports.report(reports.measurement(bundle="y"), reports.measurement(bundle="z"))
    comparison = compare(a, b)
    assert [(pair.bundle, pair.device) for pair in comparison.pairs] == [("y", "adb:R58M123")]
    build = "(executorch-xnnpack, int8-dynamic)"
    assert comparison.only_in_a == (f"unet of x {build} on adb:R58M123", f"unet of x {build} on host")
    assert comparison.only_in_b == (f"unet of z {build} on adb:R58M123",)


def test_two_variants_pair_whatever_they_are_called() -> None:
    a = reports.report(reports.measurement(bundle="x"), reports.measurement(bundle="x", program="decoder"))
    b = reports.report(reports.measurement(bundle="y", precision="fp16", program="decoder"))
    comparison = compare(a, b)
    assert [(pair.bundle, pair.bundle_b, pair.program) for pair in comparison.pairs] == [("x", "y", "decoder")]
    assert comparison.only_in_a == ("unet of x (executorch-xnnpack, int8-dynamic) on adb:R58M123",)
    assert "precisions differ: int8-dynamic in A, fp16 in B" in comparison.pairs[0].remarks


def test_bundles_of_one_name_are_told_apart_by_target_and_precision() -> None:
    slow, fast = [20.0] * 20, [10.0] * 20
    a = reports.report(
        reports.measurement(slow, precision="fp32"),
        reports.measurement(fast),
        reports.measurement(slow, precision="fp32", target="onnx"),
    )
    b = copy.deepcopy(a)
    b["measurements"].reverse()
    comparison = compare(a, b)
    assert [(pair.target, pair.precision, pair.target_b, pair.precision_b) for pair in comparison.pairs] == [
        ("executorch-xnnpack", "fp32", "executorch-xnnpack", "fp32"),
        ("executorch-xnnpack", "int8-dynamic", "executorch-xnnpack", "int8-dynamic"),
        ("onnx", "fp32", "onnx", "fp32"),
    ]
    assert {pair.verdict for pair in comparison.pairs} == {"same"} and not comparison.only_in_a
    for build in ("tiny (onnx, fp32)", "tiny (executorch-xnnpack, int8-dynamic)"):
        assert build in printed(comparison, 160)
    less = compare(a, reports.report(reports.measurement(fast)))
    assert [(pair.precision, pair.precision_b) for pair in less.pairs] == [("int8-dynamic", "int8-dynamic")]
    assert less.only_in_a == (
        "unet of tiny (executorch-xnnpack, fp32) on adb:R58M123",
        "unet of tiny (onnx, fp32) on adb:R58M123",
    )


def test_two_builds_of_one_bundle_in_a_file_are_told() -> None:
    other = reports.measurement()
    other["bundle"]["sha256"] = "cd" * 32
    with pytest.raises(
        RunnerError, match=r"measurements\[0\] and measurements\[1\], of bundles abababababab and cdcdcdcdcdcd;"
    ):
        compare(reports.report(reports.measurement(), other), on())


def on(**facts: Any) -> dict[str, Any]:
    return reports.report(reports.measurement(device={**reports.PHONE, **facts}))


def test_other_devices_only_when_told_so() -> None:
    message = r"devices differ: adb:R58M123 \(Pixel 8 Pro, Tensor G3\) in the first file, adb:X \(Pixel 8 Pro"
    with pytest.raises(RunnerError, match=message):
        compare(on(), on(name="adb:X"))
    with pytest.raises(RunnerError, match="devices differ: host .*EPYC.* in the first file, host .*M2"):
        epyc = reports.measurement(device=reports.HOST)
        m2 = reports.measurement(device={**reports.HOST, "cpu": "Apple M2"})
        compare(reports.report(epyc), reports.report(m2))
    pair = compare(on(), on(name="adb:X"), allow_different_devices=True).pairs[0]
    assert (pair.device, pair.device_b) == ("adb:R58M123", "adb:X")
    two = reports.report(*(on(name=name)["measurements"][0] for name in ("adb:X", "adb:Y")))
    with pytest.raises(RunnerError, match="each program must be on one device in either file"):
        compare(on(), two, allow_different_devices=True)


@pytest.mark.parametrize(("fact", "value"), [("cpu", "Xeon"), ("logical_cores", 4), ("usable_cores", 1)])
def test_a_host_of_one_name_with_another_processor_or_fewer_cores_is_another_device(fact: str, value: Any) -> None:
    host = {**reports.HOST, "model": "vm"}
    a = reports.report(reports.measurement(device=host))
    b = reports.report(reports.measurement(device={**host, fact: value}))
    with pytest.raises(RunnerError, match=f"devices differ: host .*{fact} {host[fact]}.* in the first.*{fact} {value}"):
        compare(a, b)
    pair = compare(a, b, allow_different_devices=True).pairs[0]
    assert f"{fact} {host[fact]} in A, {value} in B" in pair.remarks
    assert compare(a, copy.deepcopy(a)).pairs[0].remarks == ()


def ran_on(affinity: str | None, device: dict[str, Any] = reports.PHONE) -> dict[str, Any]:
    measurement = reports.measurement(device=device)
    measurement["runner"].pop("affinity") if affinity is None else measurement["runner"].update(affinity=affinity)
    return reports.report(measurement)


def test_other_cores_are_no_comparison() -> None:
    with pytest.raises(RunnerError, match="ran on the cores 1ff in the first file, f0 in the second; measure both on"):
        compare(ran_on("1ff"), ran_on("f0"))
    for alike in ("1FF", "01ff", "", None):
        assert compare(ran_on("1ff"), ran_on(alike)).pairs[0].remarks == ()
    across = compare(ran_on("1ff"), ran_on("3", reports.HOST), allow_different_devices=True).pairs[0]
    assert {"ran on cores 1ff in A, 3 in B", "runner built for ndk in A, host in B"} <= set(across.remarks)


def test_masks_are_compared_as_numbers() -> None:
    assert compare(changed(cpu_mask="f0"), changed(cpu_mask="0F0")).pairs[0].remarks == ()
    with pytest.raises(RunnerError, match="cpu_mask f0 and f"):
        compare(changed(cpu_mask="f0"), changed(cpu_mask="f"))


def test_results_from_before_a_setting_were_measured_without_it() -> None:
    older = changed()
    del older["measurements"][0]["protocol"]["weight_cache"]
    assert compare(older, changed()).pairs[0].verdict == "same"
    with pytest.raises(RunnerError, match="weight_cache None and on"):
        compare(older, changed(weight_cache="on"))


def changed(**settings: Any) -> dict[str, Any]:
    return reports.report(reports.measurement(protocol=replace(named_protocol("quick"), **settings)))


@pytest.mark.parametrize(
    ("b", "message"),
    [
        (
            reports.report(reports.measurement(program="decoder")),
            r"nothing in common: the first has unet of tiny \(executorch-xnnpack, int8-dynamic\), the",
        ),
        (reports.report(), "nothing in common: .* the second no measurement"),
        (
            reports.report(reports.measurement(method="encode")),
            "method forward in the first file, encode in the second",
        ),
        (reports.report(reports.measurement(runner="executor_runner")), "runner mobilevd in .*, executor_runner in"),
        (
            reports.report(reports.measurement(average_ms=41.0)),
            r"unet of tiny \(.*\) on adb:R58M123 in the second file has an av",
        ),
        (changed(threads=4, warmup=9), "the protocols differ in threads 2 and 4, warmup 3 and 9; measure both"),
        (changed(cpu_mask="f0"), "cpu_mask None and f0"),
        (changed(weight_cache="on"), "the protocols differ in weight_cache off and on"),
        (reports.report(reports.measurement([0.0] * 20)), "a sample of 0 ms"),
        (
            reports.report(reports.measurement(program="decoder"), reports.measurement(), reports.measurement()),
            r"second file has unet of tiny \(executorch-xnnpack, int8-dynamic\) on adb:R58M123 twice: measurements\[1\] "
            r"and measurements\[2\], both of bundle abababababab; compare",
        ),
    ],
)
def test_what_may_not_be_compared_is_refused_with_the_reason(b: dict[str, Any], message: str) -> None:
    with pytest.raises(RunnerError, match=message):
        compare(reports.report(reports.measurement()), b)


@pytest.mark.parametrize("side", [0, 1])
def test_emulated_is_never_compared(side: int) -> None:
    files = [on(), on()]
    platform = {**reports.PHONE["platform"], "emulated": "qemu-user"}
    files[side] = on(platform=platform)
    with pytest.raises(RunnerError, match=f"in the {('first', 'second')[side]} file was emulated"):
        compare(files[0], files[1])
    with pytest.raises(RunnerError, match="was emulated"):
        compare(files[0], files[1], allow_different_devices=True)


def test_names_and_time_limits_of_protocols_do_not_matter() -> None:
    other = changed(name="mine", timeout_s=99.0, gate_timeout_s=5.0)
    assert compare(reports.report(reports.measurement()), other).pairs[0].verdict == "same"


@pytest.mark.parametrize("keyword", [{"threshold": 0.0}, {"threshold": 5.0}, {"alpha": 0.0}])
def test_thresholds_are_shares(keyword: dict[str, Any]) -> None:
    with pytest.raises(RunnerError, match="between 0 and 1"):
        compare(on(), on(), **keyword)


def test_what_speaks_against_the_verdict_is_told() -> None:
    a = reports.report(reports.measurement(warnings=["noisy"]))
    measurement = copy.deepcopy(a["measurements"][0])
    measurement["warnings"] = ["throttled"]
    measurement["state_before"]["governors"] = ["performance"] * 9
    measurement["runner"]["versions"]["executorch"] = "1.6.0"
    measurement["runner"]["form"] = "glibc"
    del measurement["versions"]["adb"]
    measurement["versions"]["new"] = "1"
    measurement["bundle"]["tools"] = {"executorch": "1.4.0", "torch": "2.13.0"}
    measurement["device"] = {**measurement["device"], "kernel": "6.1.0", "fingerprint": "other"}
    assert compare(a, reports.report(measurement)).pairs[0].remarks == (
        "A: noisy",
        "B: throttled",
        "governors differ: sched_pixel in A, performance in B",
        "runner built for ndk in A, glibc in B",
        "adb 36.0.0 in A, unknown in B",
        "executorch 1.5.1 in A, 1.6.0 in B",
        "new unknown in A, 1 in B",
        "bundle's executorch 1.5.1 in A, 1.4.0 in B",
        "bundle's torch unknown in A, 2.13.0 in B",
        "kernel 5.15.153-android14 in A, 6.1.0 in B",
        "fingerprint google/husky/husky:15/AP4A.250205.002/12821496:user/release-keys in A, other in B",
    )


def test_samples_that_follow_one_another_are_told() -> None:
    steps = np.random.default_rng(3).normal(size=50)
    wave = [40 + float(value) for value in np.convolve(steps, np.ones(8), "valid")]
    remarks = compare(of_samples(wave), of_samples(reports.latencies(1, 43, 40.0))).pairs[0].remarks
    assert len(remarks) == 1 and remarks[0].startswith("A: neighbouring samples are alike: the 43 are worth ")


def printed(comparison: Comparison, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    print_comparison(comparison, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 160])
def test_printed_comparison(width: int) -> None:
    a = reports.report(reports.measurement([10.0] * 20), reports.measurement(program="gone"))
    b = reports.report(reports.measurement([12.5] * 20, warnings=["[b]noisy"]))
    text = printed(compare(a, b), width)
    assert max(map(len, text.splitlines())) <= width
    row = next(line for line in text.splitlines() if line.startswith("unet"))
    assert row.split() == ["unet", "10.0", "12.5", "1.250", "1.25-1.25", "<0.0001", "regression"]
    told = " ".join(text.split())
    assert "! B: [b]noisy" in told
    assert "only in A, not compared: gone of tiny (executorch-xnnpack, int8-dynamic) on adb:R58M123" in told
    assert text.splitlines()[-1] == "1 regression; p50, threshold 5 %, alpha 0.01"


def test_the_comparison_is_json() -> None:
    comparison = compare(of_samples([10.0] * 20), of_samples([12.5] * 20))
    read = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert read["regressed"] is True and read["pairs"][0]["ratio"] == 1.25
    assert (read["threshold"], read["alpha"]) == (0.05, 0.01)


def correlated(seed: int, n: int, rho: float, median_ms: float = 42.0, noise: float = 0.1) -> list[float]:
    """Latencies whose logarithms are an autoregression."""
    rng = np.random.default_rng(seed)
    values = [rng.normal()]
    for shock in rng.normal(scale=(1 - rho**2) ** 0.5, size=n - 1):
        values.append(rho * values[-1] + shock)
    return [float(median_ms * np.exp(noise * value)) for value in values]


@pytest.mark.parametrize("rho", [0.5, 0.7, 0.9])
def test_alike_neighbours_are_no_regression(rho: float) -> None:
    """Of equal programs, 9 to 22 % were called a regression when samples were taken as independent."""
    before = [correlated(seed, 50, rho) for seed in range(300)]
    after = [correlated(5000 + seed, 50, rho) for seed in range(300)]
    verdicts = [pair.verdict for pair in compare(of_samples(*before), of_samples(*after)).pairs]
    assert verdicts.count("regression") + verdicts.count("improvement") <= 6  # of 300, both sides: 2 %
    assert verdicts.count("same") <= 6, "with 10 % noise, nothing can be known to 5 %"


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((4, 4), "A has 4 samples; 5 are the least"),
        ((50, 4), "B has 4 samples"),
        ((1, 50), "A has 1 samples"),
    ],
)
def test_too_few_samples_tell_nothing_however_large_the_difference(counts: tuple[int, int], reason: str) -> None:
    a, b = (reports.latencies(3, n, ms) for n, ms in zip(counts, (10.0, 100.0), strict=True))
    comparison = compare(of_samples(a), of_samples(b))
    (pair,) = comparison.pairs
    assert (pair.verdict, pair.ratio_low, pair.ratio_high, pair.p_value) == ("too few", None, None, None)
    assert pair.reason is not None and reason in pair.reason and pair.if_runs_vary is None
    assert comparison.inconclusive and not comparison.regressed
    assert "nothing can be told" in printed(comparison, 160) and json.dumps(comparison.to_json())


def test_five_samples_a_side_can_tell_and_not_at_any_significance() -> None:
    a, b = [10.0, 10.3, 10.1, 10.4, 10.2], [20.0, 20.3, 20.1, 20.4, 20.2]
    assert compare(of_samples(a), of_samples(b)).pairs[0].verdict == "regression"  # 2 / C(10, 5) is 0.008
    pair = compare(of_samples(a), of_samples(b), alpha=0.005).pairs[0]
    assert pair.verdict == "too few" and pair.reason is not None and "cannot reach p < 0.005" in pair.reason


def test_many_samples_that_are_one_drift_are_too_few() -> None:
    drift = [10 + 0.01 * index for index in range(50)]
    pair = compare(of_samples(drift), of_samples(reports.latencies(2, 50, 10.0))).pairs[0]
    assert pair.verdict == "too few" and pair.reason is not None
    assert "the 50 samples of A are worth" in pair.reason and pair.effective_samples[0] < 5


def runs(seed: int, count: int, median_ms: float, spread: float) -> list[dict[str, Any]]:
    """Reports of several runs of one program, whose medians differ by `spread` from run to run."""
    levels = median_ms * np.exp(spread * np.random.default_rng(seed).normal(size=count))
    return [of_samples(reports.latencies(100 * seed + i, 20, level, 0.01)) for i, level in enumerate(levels)]


def test_several_runs_a_side_are_judged_by_the_spread_between_them() -> None:
    """Two sets of runs of one program, 5 % apart by chance: each pair of files shows a difference, the sets do not."""
    wrong = {"single": 0, "several": 0}
    for seed in range(60):
        a, b = runs(seed, 5, 42.0, 0.05), runs(1000 + seed, 5, 42.0, 0.05)
        wrong["single"] += compare(a[0], b[0]).pairs[0].verdict in ("regression", "improvement")
        pair = compare(a, b).pairs[0]
        wrong["several"] += pair.verdict in ("regression", "improvement")
        assert pair.runs == (5, 5) and pair.if_runs_vary is None
        assert pair.spread_between_runs is not None and 0.01 < pair.spread_between_runs < 0.13
    assert wrong["single"] >= 15 and wrong["several"] <= 2
    found = compare(runs(1, 5, 42.0, 0.01), runs(2, 5, 46.2, 0.01)).pairs[0]
    assert found.verdict == "regression" and found.ratio == pytest.approx(1.1, abs=0.03)
    levels = [[statistics.median(r["measurements"][0]["samples_ms"]) for r in runs(s, 5, 42.0, 0.05)] for s in (1, 2)]
    theirs = cast(Any, scipy.stats.ttest_ind(np.log(levels[0]), np.log(levels[1]))).pvalue
    ours = compare(runs(1, 5, 42.0, 0.05), runs(2, 5, 42.0, 0.05)).pairs[0].p_value
    assert ours == pytest.approx(theirs)


def test_a_side_of_one_run_takes_the_spread_of_the_other_and_says_so() -> None:
    pair = compare(runs(1, 4, 42.0, 0.02), runs(2, 1, 42.0, 0.02)).pairs[0]
    assert pair.runs == (4, 1) and any("B has one run, so its spread is unknown" in each for each in pair.remarks)
    noisy = runs(2, 2, 42.0, 0.02)
    noisy[1]["measurements"][0]["warnings"] = ["throttled"]
    assert "B, run 2: throttled" in compare(runs(1, 2, 42.0, 0.02), noisy).pairs[0].remarks


def test_runs_of_a_side_that_do_not_match_are_refused() -> None:
    other = reports.report(reports.measurement(program="decoder"))
    with pytest.raises(RunnerError, match="nothing in common"):
        compare([on(), other], [on()])
    with pytest.raises(RunnerError, match="protocols differ in threads"):
        compare([on()], [on(), changed(threads=4)])
    with pytest.raises(RunnerError, match="each side"):
        compare([], [on()])


def test_one_run_a_side_tells_what_a_spread_between_runs_would_do() -> None:
    a, b = (of_samples(reports.latencies(seed, 50, ms, 0.01)) for seed, ms in ((2, 42.0), (3, 45.0)))
    comparison = compare(a, b)
    (pair,) = comparison.pairs
    vary = pair.if_runs_vary
    assert pair.verdict == "regression" and vary is not None and vary.verdict == "undecided"
    assert vary.low < 1 < vary.high and vary.high / vary.low == pytest.approx(
        np.exp(2 * 2.576 * 0.03 * 2**0.5), rel=0.02
    )
    told = " ".join(printed(comparison, 160).split())
    assert (
        "one run a side; if runs differ by 3 % (one deviation), the interval is" in told and "--baseline A..." in told
    )


def test_one_run_given_twice_is_told(tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 1), ("b", 2), ("copy", 1)):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(of_samples(reports.latencies(seed, 20, 42.0))))
    (tmp_path / "link.json").symlink_to("a.json")
    check_different_runs(files[:2], [read_report(file) for file in files[:2]])
    for given, text in (
        ([files[0], files[0]], "are the same file"),
        ([files[0], tmp_path / "link.json"], "are the same file"),
        ([files[0], files[1], files[2]], "a.json and .*copy.json hold the same run of p0 of tiny"),
    ):
        with pytest.raises(RunnerError, match=text):
            check_different_runs(given, [read_report(file) for file in given])


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("A B", 0, "1 same"),
        ("A SLOW", 1, "1 regression"),
        ("SLOW A", 0, "1 improvement"),
        ("A FEW", 3, "nothing can be told"),
        ("A A", 2, "are the same file"),
        ("A", 2, "compare takes two results"),
        ("A B SLOW", 2, "compare takes two results"),
        ("--baseline A B --candidate SLOW SLOW2", 1, "2 and 2 runs, which differ by"),
        ("--baseline A --baseline B --candidate B2 --candidate A2 --threshold 20%", 0, "1 same"),
        ("--baseline A B --candidate B", 2, "are the same file"),
        ("--baseline A", 2, "compare takes two results"),
        ("A B --candidate SLOW", 2, "compare takes two results"),
    ],
)
def test_exit_codes_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, code: int, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, seed, n, ms in (
        ("A", 2, 50, 42.0), ("B", 3, 50, 42.0), ("A2", 4, 50, 42.0), ("B2", 9, 50, 42.0),
        ("SLOW", 4, 50, 60.0), ("SLOW2", 9, 50, 60.0), ("FEW", 2, 4, 420.0),
    ):  # fmt: skip
        (tmp_path / name).write_text(json.dumps(of_samples(reports.latencies(seed, n, ms, 0.01))))
    result = CliRunner().invoke(app, ["compare", *arguments.split()])
    assert result.exit_code == code, result.output
    assert text in result.output
