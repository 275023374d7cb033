"""Latency of one UNet evaluation on this host: our exported program against diffusers and ONNX Runtime.

One run, same weights, same threads, the engines taking turns round by round, so that whatever else the machine does
meets all of them. Figures are medians; ratios are medians of the ratios within a round.

    python benchmarks/host_latency.py [--threads 2] [--rounds 7] [--quick]

Engines:
    program       the .pte of the one-step generator (XNNPACK), run by the C++ runner in a process of its own
    diffusers     UNetSpatioTemporalConditionModel, eager
    ours, eager   SpatioTemporalUNet, eager (native form)
    onnxruntime   diffusers' UNet exported with torch.onnx.export(dynamo=True)

The model is uncompressed: about 70 million parameters, 14 frames, latents of 32x64. All outputs are compared with
diffusers' before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from device_runner.bundle import read_bundle  # noqa: E402
from device_runner.measure import measure  # noqa: E402
from device_runner.protocol import Protocol  # noqa: E402
from export.bundle import export_bundle  # noqa: E402
from export.one_step import OneStepGenerator, OneStepSettings  # noqa: E402
from export.parity import psnr_db  # noqa: E402
from mobilevd.unet import SpatioTemporalUNet  # noqa: E402

MEDIUM: dict[str, Any] = {
    "block_out_channels": (64, 128, 256, 256),
    "num_attention_heads": (1, 2, 4, 4),
    "cross_attention_dim": 1024,
    "num_frames": 14,
}
QUICK: dict[str, Any] = {**MEDIUM, "block_out_channels": (32, 32, 64, 64), "num_attention_heads": (1, 1, 2, 2)}
FRAMES, HEIGHT, WIDTH, SIGMA = 14, 32, 64, 700.0
SETTINGS = OneStepSettings(HEIGHT, WIDTH, FRAMES, SIGMA)


class OneStepDiffusers(nn.Module):
    """diffusers' UNet as the same one-step generator, so that all engines do the same work."""

    def __init__(self, unet: UNetSpatioTemporalConditionModel, like: OneStepGenerator) -> None:
        super().__init__()
        self.unet = unet
        self.factors = (like.noise_to_input, like.noise_to_output, like.network_to_output)
        self.register_buffer("timestep", torch.tensor([0.25 * torch.tensor(SIGMA).log()]))
        self.register_buffer("ids", SETTINGS.time_ids())

    def forward(self, noise: Tensor, image_latents: Tensor, image_embedding: Tensor) -> Tensor:
        to_input, to_output, network = self.factors
        sample = torch.cat([noise * to_input, image_latents.expand(FRAMES, -1, -1, -1)], dim=1)[None]
        out = self.unet(sample, self.timestep, image_embedding, self.ids, return_dict=False)[0][0]
        return noise * to_output + out * network


def onnx_session(model: nn.Module, inputs: tuple[Tensor, ...], file: Path, threads: int) -> Any:
    """ONNX Runtime's session of diffusers' own export, kept in `file`."""
    import onnxruntime

    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        names = ["noise", "image_latents", "image_embedding"]
        with torch.no_grad():
            exported = torch.onnx.export(model, inputs, input_names=names, output_names=["latents"], dynamo=True)
        assert exported is not None
        exported.save(str(file))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def milliseconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a smaller model and 2 rounds, to try the script")
    parser.add_argument("--work", type=Path, default=Path(".cache/host_latency"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else arguments.rounds
    work = arguments.work / ("quick" if arguments.quick else "medium")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    unet = SpatioTemporalUNet(**(QUICK if arguments.quick else MEDIUM)).eval()
    unet.save_svd(work / "unet")
    theirs = UNetSpatioTemporalConditionModel.from_pretrained(work / "unet").eval()
    ours = OneStepGenerator(unet, SETTINGS)
    diffusers_model = OneStepDiffusers(theirs, ours).eval()
    inputs = (torch.randn(FRAMES, 4, HEIGHT, WIDTH), torch.randn(1, 4, HEIGHT, WIDTH), torch.randn(1, 1, 1024))
    named: dict[str, Tensor] = dict(zip(("noise", "image_latents", "image_embedding"), inputs, strict=True))

    started = time.perf_counter()
    manifest = export_bundle(unet, work / "bundle", SETTINGS, name="medium", inputs=named)
    export_s = time.perf_counter() - started
    session = onnx_session(diffusers_model, inputs, work / "diffusers.onnx", arguments.threads)
    feed = {key: value.numpy() for key, value in named.items()}

    with torch.no_grad():
        reference = diffusers_model(*inputs)
        parity = {
            "program": manifest["programs"]["unet"]["parity"]["psnr_db"],
            "ours, eager": psnr_db(ours(*inputs), reference),
            "onnxruntime": psnr_db(torch.from_numpy(session.run(None, feed)[0]), reference),
        }
    assert read_bundle(work / "bundle").program("unet"), "the bundle is read back before it is measured"
    protocol = Protocol(warmup=1, iterations=2, threads=arguments.threads)
    samples: dict[str, list[float]] = {"program": [], "diffusers": [], "ours, eager": [], "onnxruntime": []}
    for number in range(rounds + 1):  # the first round warms up
        with torch.no_grad():
            taken = {
                "program": statistics.median(measure(work / "bundle", "host", protocol).samples_ms),
                "diffusers": milliseconds(lambda: diffusers_model(*inputs)),
                "ours, eager": milliseconds(lambda: ours(*inputs)),
                "onnxruntime": milliseconds(lambda: session.run(None, feed)),
            }
        if number:
            for name, value in taken.items():
                samples[name].append(value)
        print(f"round {number}: " + ", ".join(f"{k} {v:.0f} ms" for k, v in taken.items()), flush=True)

    ratios = {
        name: statistics.median(x / p for x, p in zip(values, samples["program"], strict=True))
        for name, values in samples.items()
    }
    parameters = sum(p.numel() for p in unet.parameters())
    print(
        f"\n{parameters / 1e6:.1f} M parameters, {FRAMES} frames, latents {HEIGHT}x{WIDTH}, {arguments.threads} threads"
    )
    print(f"{'engine':14s} {'median ms':>10s} {'program is faster by':>21s} {'PSNR dB':>8s}")
    for name, values in samples.items():
        print(f"{name:14s} {statistics.median(values):10.0f} {ratios[name]:20.2f}x {parity.get(name, 0):8.1f}")
    print(f"exporting took {export_s:.1f} s; {manifest['programs']['unet']['delegation']}")
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {t: version(t) for t in ("torch", "diffusers", "executorch", "onnxruntime")},
        "threads": arguments.threads,
        "model": {"parameters": parameters, "frames": FRAMES, "latents": [HEIGHT, WIDTH]},
        "samples_ms": samples,
        "times_slower_than_program": ratios,
        "psnr_db": parity,
        "export_s": export_s,
        "delegation": manifest["programs"]["unet"]["delegation"],
    }
    if not arguments.quick:
        arguments.out.mkdir(parents=True, exist_ok=True)
        file = arguments.out / f"host_latency-{result['date'][:10]}.json"
        file.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written: {file}")


def processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
