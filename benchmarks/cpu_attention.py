"""Training attention on a CPU: torch's fused kernel against plain products, forward and backward, interleaved.

    python benchmarks/cpu_attention.py [--threads 2] [--rounds 15]

Shapes are those of a tiny run (spatial tokens of 8 frames in a batch of 8; frames at every position) and longer ones.
Figures go to benchmarks/results/; `PLAIN_ATTENTION_KEYS` in mobilevd/model/layers/ops.py follows from them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

# name: (batch, heads, tokens, head dimension)
SHAPES = {
    "temporal, 8 frames at 1024 positions": (1024, 2, 8, 16),
    "temporal, 14 frames at 2048 positions": (2048, 2, 14, 32),
    "spatial, 32 tokens": (64, 4, 32, 16),
    "spatial, 128 tokens": (64, 2, 128, 16),
    "spatial, 256 tokens": (32, 2, 256, 32),
    "spatial, 512 tokens": (16, 4, 512, 32),
    "spatial, 2048 tokens": (4, 4, 2048, 32),
}


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1), dim=-1) @ v


def milliseconds(attention, shape: tuple[int, ...], dtype: torch.dtype) -> float:
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    started = time.perf_counter()
    attention(q, k, v).sum().backward()
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for name, shape in SHAPES.items():
        for dtype in (torch.float32, torch.bfloat16):
            samples: dict[str, list[float]] = {"fused": [], "plain": []}
            for round_number in range(arguments.rounds + 2):
                for label, attention in (("fused", fused), ("plain", plain)):
                    took = milliseconds(attention, shape, dtype)
                    if round_number >= 2:  # the first two warm up
                        samples[label].append(took)
            medians = {label: statistics.median(values) for label, values in samples.items()}
            row = {"shape": name, "dtype": str(dtype).removeprefix("torch."), **medians}
            row["fused over plain"] = medians["fused"] / medians["plain"]
            rows.append(row)
            print(f"{name:40} {row['dtype']:9} fused {medians['fused']:8.2f} ms  plain {medians['plain']:8.2f} ms  "
                  f"ratio {row['fused over plain']:.2f}", flush=True)  # fmt: skip
    day = datetime.now(UTC).date().isoformat()
    machine = {"system": f"{platform.system()} {platform.machine()}", "torch": torch.__version__}
    file = Path(__file__).parent / "results" / f"cpu_attention-{day}.json"
    content = {"date": day, "machine": machine, "threads": arguments.threads, "rounds": arguments.rounds, "rows": rows}
    file.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
