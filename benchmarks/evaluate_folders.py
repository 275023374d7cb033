"""Clips per second of `mobilevd evaluate`'s loop against a plain one.

    python benchmarks/evaluate_folders.py [--network small|i3d] [--videos 48] [--rounds 3]

The plain loop goes video by video, as most programs for FVD do: it decodes the whole video, resizes every frame, cuts it
into clips, and gives them to the network, 1 or 16 at a time; then comes the next video. Ours decodes what is needed, in
threads beside the network, and fills batches across videos. Both compute features of the same network with random
weights, of the same clips: 16 frames of 320x240. The network is a small one, beside which decoding counts as it does
beside a GPU, or I3D at 224x224 itself, which takes nearly all of the time on a CPU: plainly as its PyTorch ports have
it, ours as this project runs it (norms folded, channels last). Two kinds of folders: generated clips, of one clip each,
and longer real videos at 30 fps, of which all clips are taken at 7 fps or only the first. The loops take turns; medians
of the rounds go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from eval.gather import GatheredClips  # noqa: E402
from eval.networks.i3d import InflatedInception  # noqa: E402
from mobilevd.commands.evaluate_clips import ClipChoice, ClipForm, decode_threads  # noqa: E402
from mobilevd.commands.evaluate_figures import ClipFigures  # noqa: E402
from mobilevd.commands.evaluate_settings import EvaluateSettings  # noqa: E402
from mobilevd.commands.evaluate_side import Networks, Side  # noqa: E402
from training.data.video import write_video  # noqa: E402

FRAMES, HEIGHT, WIDTH, FPS = 16, 240, 320, 7.0


class RandomNetwork:
    """A small 3-D network at 112x112 with random weights, in place of I3D: about a fiftieth of its work."""

    name, distance_name, sha256 = "random", "FD-random", "0" * 64
    ddof = 1
    protocol: dict[str, Any] = {"input_size": [112, 112]}

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = []
        for channels_in, channels_out in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv3d(channels_in, channels_out, 3, 2, 1), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten()).eval()

    @torch.inference_mode()
    def __call__(self, clips: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        x = nn.functional.interpolate(x, size=(FRAMES, 112, 112), mode="trilinear")
        return self.model(x).double().numpy()


class RandomI3D:
    """I3D with random weights, plainly or in the form for inference."""

    name, distance_name, sha256 = "random-i3d", "FD-random", "0" * 64
    ddof = 1
    protocol: dict[str, Any] = {"input_size": [224, 224]}

    def __init__(self, for_inference: bool) -> None:
        torch.manual_seed(0)
        self.model = InflatedInception().eval()
        if for_inference:
            self.model.for_inference()

    @torch.inference_mode()
    def __call__(self, clips: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        x = nn.functional.interpolate(x, size=(FRAMES, 224, 224), mode="trilinear")
        return self.model(x).double().numpy()


Network = RandomNetwork | RandomI3D


def plain(folder: Path, network: Network, batch: int, every: bool) -> int:
    """The straightforward loop; number of clips."""
    features = []
    for file in sorted(folder.glob("*.mp4")):
        with av.open(str(file)) as container:
            rate = float(container.streams.video[0].average_rate or FPS)
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        step = rate / FPS
        frames = [cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for frame in decoded]
        chosen = [frames[min(len(frames) - 1, round(k * step))] for k in range(int(len(frames) / step + 1e-6))]
        clips = [np.stack(chosen[i : i + FRAMES]) for i in range(0, len(chosen) - FRAMES + 1, FRAMES)]
        clips = clips if every else clips[:1]
        for start in range(0, len(clips), batch):
            features.append(network(np.stack(clips[start : start + batch])))
    return len(np.concatenate(features))


def ours(folder: Path, network: Network, batch: int, every: bool) -> int:
    """The command's own loop, from listing the folder on; number of clips."""
    settings, form = EvaluateSettings(metrics=("distance",)), ClipForm(FRAMES, FPS, HEIGHT, WIDTH)
    side = Side.open("reference", folder, with_content=False)
    side.choose(form, ClipChoice(None if every else 1), settings)
    side.read(form, ClipFigures(("distance",)), Networks([("random", network)], None, batch, {}), settings)
    gathered: GatheredClips = side.gathered
    return len(gathered)


def write_folder(folder: Path, videos: int, seconds: float, rate: float, size: tuple[int, int]) -> None:
    """Videos of a moving texture."""
    folder.mkdir()
    for number in range(videos):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (size[0] // 16, size[1] // 16, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        frames = np.stack([np.roll(picture, 3 * i, axis=1) for i in range(round(seconds * rate))])
        write_video(folder / f"{number:03}.mp4", frames, rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=48, help="of one clip; of long ones (7 s) there are a sixth")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", choices=["small", "i3d"], default="small")
    options = parser.parse_args()
    i3d = options.network == "i3d"
    network: Network = RandomI3D(for_inference=True) if i3d else RandomNetwork()
    plainly: Network = RandomI3D(for_inference=False) if i3d else network
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        generated, real = Path(place) / "generated", Path(place) / "real"
        write_folder(generated, options.videos, FRAMES / FPS, FPS, (HEIGHT, WIDTH))
        write_folder(real, max(2, options.videos // 6), 7.0, 30.0, (480, 640))
        loops: dict[str, Callable[[Path, bool], int]] = {
            "ours": lambda folder, every: ours(folder, network, 8, every),
            "plain, batch 1": lambda folder, every: plain(folder, plainly, 1, every),
            "plain, batch 16": lambda folder, every: plain(folder, plainly, 16, every),
        }
        cases = {
            "generated clips": (generated, True),
            "real videos, all clips": (real, True),
            "real videos, the first clip": (real, False),
        }
        for case, (folder, every) in cases.items():
            rates: dict[str, list[float]] = {name: [] for name in loops}
            counts = set()
            for _ in range(options.rounds):
                for name, loop in loops.items():
                    begun = time.perf_counter()
                    counts.add(count := loop(folder, every))
                    rates[name].append(count / (time.perf_counter() - begun))
            if len(counts) != 1:
                raise SystemExit(f"{case}: the loops took different numbers of clips: {counts}")
            medians = {name: statistics.median(values) for name, values in rates.items()}
            best_plain = max(value for name, value in medians.items() if name != "ours")
            results[case] = {
                "clips": counts.pop(),
                "clips_per_s": rates,
                "median_clips_per_s": medians,
                "ours_over_the_better_plain": medians["ours"] / best_plain,
            }
            told = ", ".join(f"{name} {value:.2f}" for name, value in medians.items())
            print(f"{case}: clips/s {told}; {medians['ours'] / best_plain:.2f} times", flush=True)
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "av": av.__version__},
        "threads": {"torch": torch.get_num_threads(), "decoding": decode_threads()},
        "network": options.network,
        "form": {"frames": FRAMES, "height": HEIGHT, "width": WIDTH, "fps": FPS},
        "results": results,
    }
    file = Path(__file__).parent / "results" / f"evaluate_folders-{options.network}-{document['date'][:10]}.json"
    file.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written: {file}")


if __name__ == "__main__":
    main()
