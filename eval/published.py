"""The published cumulative table of MobileVD (arXiv 2412.07583): its rows, and what had been done to the model in each.

TFLOPs and latencies are of one function evaluation of the UNet at batch 1, 14 frames, a multiply-accumulate counted as 2.
FVD is on UCF-101. The phone is a Xiaomi 14 Pro (Snapdragon 8 Gen 3), the GPU one A100.
"""

from __future__ import annotations

from dataclasses import dataclass

PHONE = "Xiaomi 14 Pro"
RESOLUTION, FINETUNING, CROSS_ATTENTION = "resolution", "finetuning", "cross_attention"
ADVERSARIAL, MULTISCALE = "adversarial", "temporal_multiscale"
PRUNING, FUNNELS = "temporal_pruning", "funnels"
"""Steps of the method, called as the transforms of a configuration; `finetuning` and `adversarial` are trainings."""


@dataclass(frozen=True)
class PublishedRow:
    """A row.

    Attributes:
        name: as printed.
        steps: all steps that the model went through.
        nfe: function evaluations of a clip.
        fvd_25, fvd_7: FVD at 25 and 7 frames per second.
        tflops: of one function evaluation.
        gpu_ms, phone_ms: latency of one function evaluation; None where the phone ran out of memory.
    """

    name: str
    steps: frozenset[str]
    nfe: int
    fvd_25: float
    fvd_7: float
    tflops: float
    gpu_ms: float
    phone_ms: float | None

    @property
    def tflops_per_clip(self) -> float:
        return self.nfe * self.tflops


def _rows() -> tuple[PublishedRow, ...]:
    """The rows, each with one step more than the one above."""
    printed = [
        ("SVD 1024x576", None, 50, 140, 149, 45.43, 376, None),
        ("SVD 512x256", RESOLUTION, 50, 366, 476, 8.60, 82, None),
        ("+ low-resolution finetuning", FINETUNING, 50, 194, 196, 8.60, 82, None),
        ("+ optimized cross-attention", CROSS_ATTENTION, 50, 194, 196, 8.24, 76, 3630),
        ("+ adversarial finetuning", ADVERSARIAL, 1, 133, 168, 8.24, 76, 3630),
        ("+ temporal multiscaling", MULTISCALE, 1, 139, 156, 5.42, 59, 2590),
        ("+ temporal block pruning (70 %)", PRUNING, 1, 127, 150, 4.64, 47, 2100),
        ("+ channel funnels = MobileVD", FUNNELS, 1, 149, 171, 4.34, 45, 1780),
    ]
    rows, done = [], []
    for name, step, *figures in printed:
        done += [step] if step else []
        rows.append(PublishedRow(name, frozenset(done), *figures))
    return tuple(rows)


PUBLISHED = _rows()


def published_after(steps: frozenset[str]) -> PublishedRow | None:
    """The row of a model that went through exactly these steps; None if there is none."""
    return next((row for row in PUBLISHED if row.steps == steps), None)
