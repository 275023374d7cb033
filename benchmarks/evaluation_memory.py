"""Memory of an evaluation at the paper's size: 14 frames, videos of 1024x576, clips of 512x256, compared at 320x240.

    python benchmarks/evaluation_memory.py [--clips 16 48]

Measured on this machine, in a process of its own for each number of clips: the peak of resident memory above that before
the work, reading real clips and generating with a stand-in for model and codec (their own memory is not in question). By
fake tensors, without computing: the peak of activations of SVD's UNet and of its decoder for a batch. By arithmetic: all
that is kept of 2048 clips. Figures go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FRAMES, PAPER_CLIPS, BATCH = 14, 2048, 4
SIZES = {"video": (576, 1024), "clip": (256, 512), "evaluation": (180, 320)}
LATENTS = 32, 64  # of a clip


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that live at the same time inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and (storage := leaf.untyped_storage())._cdata not in self._seen:
                self._seen.add(storage._cdata)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return out

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def activations() -> dict[str, float]:
    """Peaks in GB of SVD's networks in one evaluation, their weights left out."""
    from mobilevd.model.unet import SpatioTemporalUNet

    found = {}
    with FakeTensorMode(), torch.no_grad():
        unet = cast(nn.Module, SpatioTemporalUNet()).eval()
        vae = cast(Any, AutoencoderKLTemporalDecoder)(  # its annotations know one level only
            down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(128, 256, 512, 512), layers_per_block=2
        ).eval()
        inputs = (
            torch.empty(BATCH, FRAMES, 8, *LATENTS), torch.empty(BATCH), torch.empty(BATCH, 1, 1024), torch.empty(BATCH, 3)
        )  # fmt: skip
        for name, precision in (("fp32", None), ("bf16", torch.bfloat16)):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision is not None), LiveBytes() as bytes_:
                unet(*inputs)
            found[f"UNet, {BATCH} clips, {name}"] = bytes_.peak / 1e9
        for chunk in (FRAMES, 2):
            with LiveBytes() as bytes_:
                vae.decode(torch.empty(chunk, 4, *LATENTS), num_frames=chunk)
            found[f"decoder, {chunk} frames at a time, fp32"] = bytes_.peak / 1e9
    return found


def measure(clips: int, folder: Path) -> dict[str, float]:
    """Peak growth of this process in MB while `clips` clips are read, and while as many are generated."""
    from accelerate import PartialState

    from eval.features import load_extractor
    from eval.summary import join_summaries
    from mobilevd.codecs.base import Codec
    from mobilevd.config.schema import RunConfig
    from mobilevd.pipeline.data import RunClips
    from mobilevd.pipeline.evaluate import Evaluator
    from mobilevd.pipeline.reference import summarize_reference
    from mobilevd.pipeline.rows import Entry
    from training.data.clips import Clip, ClipIndex
    from training.data.videos import as_video

    class Strided(Codec):
        """Takes every eighth pixel, so that nothing but pixels takes memory."""

        name, latent_channels, spatial_factor, scaling_factor, embedding_dim = "strided", 4, 8, 1.0, 8

        def encode_condition(self, image: Tensor) -> Tensor:
            return image[:, [0, 1, 2, 0], ::8, ::8]

        def encode(self, frames: Tensor) -> Tensor:
            return self.encode_condition(frames)

        def decode(self, latents: Tensor) -> Tensor:
            return latents[:, :, :3].repeat_interleave(8, 3).repeat_interleave(8, 4)

        def embed_image(self, image: Tensor) -> Tensor:
            return torch.zeros(len(image), 1, 8)

    (height, width), evaluated = SIZES["video"], SIZES["evaluation"]
    config = RunConfig.model_validate(
        {
            "name": "memory", "output": str(folder / f"run-{clips}"), "base": {"model": "none", "codec": "none"},
            "data": {"num_frames": FRAMES, "fps": 7, "height": height, "width": width},
            "stages": [{"name": "only"}],
            "evaluation": {"clips": clips, "height": evaluated[0], "width": evaluated[1], "batch_size": BATCH},
        }
    )  # fmt: skip
    listed = [Clip(as_video(folder / "video.mp4"), i * 0.004) for i in range(clips)]
    extractor, state = load_extractor("motion", batch_size=8), PartialState(cpu=True)
    found = {}
    before = reset_peak()
    reference = summarize_reference(config, listed, extractor, state)
    found["reading_mb"] = peak() - before
    test = ClipIndex(listed, [])
    evaluator = Evaluator(config, extractor, Strided(), RunClips(test, test), join_summaries([reference]), state)
    entry = Entry("only", "only", folder, folder, None, None, *SIZES["clip"], True, True, 64, "")
    before = reset_peak()
    evaluator.compare(entry, lambda noise, conditions: noise, lambda done: None)
    found["generating_mb"] = peak() - before
    return found


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def reset_peak() -> float:
    """Begin a new peak of resident memory (Linux); return that of now in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> float:
    return _status("VmHWM")


def write_source(folder: Path) -> None:
    """A video of 8 s at 1024x576 and 24 frames per second."""
    from training.data.video import write_video

    rng, (height, width) = np.random.default_rng(0), SIZES["video"]
    picture = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    frames = np.stack([np.roll(picture, 3 * i, axis=1) for i in range(24 * 8)])
    write_video(folder / "video.mp4", frames, 24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[16, 48])
    parser.add_argument("--child", nargs=2, metavar=("CLIPS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(int(options.child[0]), Path(options.child[1]))))
        return
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        write_source(Path(folder))
        for clips in options.clips:
            command = [sys.executable, __file__, "--child", str(clips), folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            measured[clips] = json.loads(done.stdout.splitlines()[-1])
            print(clips, "clips:", measured[clips])
    features = {"motion": 32, "i3d": 400}
    kept_mb = {name: 2 * PAPER_CLIPS * (8 * width + 8 * 3) / 1e6 for name, width in features.items()}
    pixels = PAPER_CLIPS * FRAMES * 3
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"platform": platform.platform(), "python": platform.python_version(), "torch": torch.__version__},
        "measured_peak_above_before_mb": measured,
        "kept_of_2048_generated_and_2048_real_clips_mb": kept_mb,
        "pixels_that_are_not_kept_gb": {
            "real clips at 1024x576": pixels * SIZES["video"][0] * SIZES["video"][1] / 1e9,
            "real clips at 320x240": pixels * SIZES["evaluation"][0] * SIZES["evaluation"][1] / 1e9,
            "generated clips at 512x256": pixels * SIZES["clip"][0] * SIZES["clip"][1] / 1e9,
        },
        "activations_of_the_models_gb": activations(),
    }
    file = Path(__file__).parent / "results" / f"evaluation_memory-{document['date'][:10]}.json"
    file.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))
    print(f"written: {file}")


if __name__ == "__main__":
    main()
