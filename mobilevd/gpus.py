"""What the makers' data sheets say of GPUs that people train on: memory, and peak rates of dense matrix products."""

from __future__ import annotations

from dataclasses import dataclass

from mobilevd.config.problems import nearest
from mobilevd.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        name: as the configuration names it.
        match: words that torch's name of the device holds, all of them.
        memory_gb: memory in GiB, as its maker calls it.
        bf16_tflops: dense matrix products in bfloat16 with sums in float32 (V100: float16).
        tf32_tflops: the same in TF32; float32 where the GPU has no TF32.
        fp32_tflops: float32 without tensor cores.
    """

    name: str
    match: tuple[str, ...]
    memory_gb: float
    bf16_tflops: float
    tf32_tflops: float
    fp32_tflops: float

    def tflops(self, mixed_precision: str, tf32: bool = True) -> float:
        """Peak in TFLOP/s for a training's `mixed_precision` ("no", "bf16", "fp16")."""
        if mixed_precision != "no":
            return self.bf16_tflops
        return self.tf32_tflops if tf32 else self.fp32_tflops


# The more special name comes first: "NVIDIA A100-SXM4-80GB" holds "A100", too.
GPUS = (
    Gpu("b200", ("B200",), 180, 2250, 1125, 75),
    Gpu("h200", ("H200",), 141, 989, 494.5, 67),
    Gpu("h100-pcie", ("H100", "PCIe"), 80, 756, 378, 51),
    Gpu("h100", ("H100",), 80, 989, 494.5, 67),
    Gpu("a100-80gb", ("A100", "80GB"), 80, 312, 156, 19.5),
    Gpu("a100-40gb", ("A100",), 40, 312, 156, 19.5),
    Gpu("mi300x", ("MI300X",), 192, 1307, 653.7, 163.4),
    Gpu("l40s", ("L40S",), 48, 362, 183, 91.6),
    Gpu("l4", ("L4",), 24, 121, 60, 30.3),
    Gpu("a6000", ("A6000",), 48, 154.8, 77.4, 38.7),
    Gpu("a10", ("A10",), 24, 125, 62.5, 31.2),
    Gpu("v100", ("V100",), 32, 125, 15.7, 15.7),
    Gpu("rtx5090", ("RTX 5090",), 32, 209.5, 104.8, 104.8),
    Gpu("rtx4090", ("RTX 4090",), 24, 165.2, 82.6, 82.6),
    Gpu("rtx3090", ("RTX 3090",), 24, 71, 35.6, 35.6),
)


def gpu_named(name: str) -> Gpu:
    """The GPU that a configuration names. UserError lists the known ones."""
    for gpu in GPUS:
        if gpu.name == name.lower():
            return gpu
    raise UserError(f"hardware.gpu: no GPU{nearest(name, [gpu.name for gpu in GPUS])}; or give memory_gb and tflops")


def gpu_of(device_name: str) -> Gpu | None:
    """The GPU that torch names so (`torch.cuda.get_device_name`); None if it is not known here."""
    words = device_name.lower()
    return next((gpu for gpu in GPUS if all(part.lower() in words for part in gpu.match)), None)
