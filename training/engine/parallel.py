"""Whole copies of the model in every process (DDP), or weights, states and frozen parts sharded over them (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from mobilevd.config.training import TrainingSettings
from mobilevd.errors import UserError
from mobilevd.model.anatomy import block_modules
from mobilevd.model.unet import SpatioTemporalUNet


def make_accelerator(mixed_precision: str) -> Accelerator:
    """An Accelerator of this precision. accelerate keeps one per process, but a run's stages may differ in precision."""
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()
    # without a GPU accelerate must be told so, or processes of a launcher do not find each other
    accelerator = Accelerator(
        mixed_precision=mixed_precision,
        cpu=not torch.cuda.is_available(),
        # else DDP keeps a second copy of all gradients, 6 GB of SVD's
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    if mixed_precision == "fp16" and accelerator.scaler is None:  # accelerate would train in float32, and not say so
        raise UserError(f"training.mixed_precision=fp16: not on {accelerator.device}, only on a GPU; use bf16, or no")
    return accelerator


def check_parallel(settings: TrainingSettings, processes: int) -> None:
    """Raise UserError for settings that do not go together with sharding."""
    if settings.parallel != "fsdp":
        return
    if processes == 1:
        raise UserError("training.parallel=fsdp: there is one process, and nothing to shard over; use ddp")
    if settings.optimizer == "sm3":
        raise UserError(
            "training.parallel=fsdp: SM3 keeps a maximum over whole rows of weights, which are sharded; use "
            "optimizer=adamw, or parallel=ddp"
        )
    if settings.optimizer == "adamw-8bit":
        raise UserError(
            "training.parallel=fsdp: blocks of 8-bit states do not follow the shards; use optimizer=adamw, whose states "
            "are sharded, or parallel=ddp"
        )
    if settings.train == "lora":
        raise UserError("training.parallel=fsdp: the additions of train=lora are small and are not sharded; use ddp")
    if settings.mixed_precision == "fp16":
        raise UserError("training.parallel=fsdp: the loss scale of fp16 is not shared by the shards; use bf16, or no")


class Parallel:
    """The model as the losses call it, and its synchronization."""

    def __init__(self, settings: TrainingSettings, accelerator: Accelerator, unet: SpatioTemporalUNet) -> None:
        self.accelerator, self.unet = accelerator, unet
        self.sharded = settings.parallel == "fsdp"
        self.mesh: DeviceMesh | None = None
        self.unshared: list[nn.Parameter] = []
        """Trained parameters of the UNet whose gradients neither DDP nor FSDP averages."""
        if self.sharded:
            check_parallel(settings, accelerator.num_processes)
            self.mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
            half = settings.mixed_precision == "bf16"
            self.policy = MixedPrecisionPolicy(
                param_dtype=torch.bfloat16 if half else None, reduce_dtype=torch.float32, cast_forward_inputs=False
            )
            # the gates are computed from it before every step, outside the forward pass that gathers shards
            if unet.temporal_importance is not None:
                self.unshared = [unet.temporal_importance]
                unet.temporal_importance.data = unet.temporal_importance.data.to(accelerator.device)
            self.shard(unet, set(self.unshared))
            self.wrapped: Any = unet
        else:
            self.wrapped = accelerator.prepare_model(unet)

    def shard(self, module: nn.Module, ignored: set[nn.Parameter] | None = None) -> None:
        """Shard a module in place, block by block, so that one block at a time is whole."""
        assert self.mesh is not None
        blocks = block_modules(module, resamplers=True)
        for block in blocks.values():
            fully_shard(block, mesh=self.mesh, mp_policy=self.policy)
        fully_shard(module, mesh=self.mesh, mp_policy=self.policy, ignored_params=ignored or set())

    def place_frozen(self, modules: Sequence[nn.Module]) -> None:
        """Put modules that are never trained onto the device, sharded if the model is."""
        for module in modules:
            if self.sharded and all(p.dtype == torch.float32 for p in module.parameters()):
                self.shard(module)
            else:
                module.to(self.accelerator.device)

    @contextmanager
    def synchronized(self, last: bool) -> Iterator[None]:
        """Average gradients over the processes in the last pass of a step alone."""
        if isinstance(self.wrapped, DistributedDataParallel) and not last:
            with self.wrapped.no_sync():
                yield
            return
        if isinstance(self.wrapped, FSDPModule):
            self.wrapped.set_requires_gradient_sync(last)
        yield

    def whole(self) -> SpatioTemporalUNet:
        """The model with its weights as they are, on the CPU and not sharded; the other processes keep their shards."""
        unet = self.unet
        if not self.sharded:
            return cast(SpatioTemporalUNet, nn.Module.to(unet, "cpu"))
        tensors: dict[str, torch.Tensor] = {}
        for name, value in unet.state_dict().items():  # one at a time: only the first process keeps them
            tensor = value.full_tensor() if isinstance(value, DTensor) else value
            if self.accelerator.is_main_process:
                tensors[name] = tensor.detach().cpu()
        if not self.accelerator.is_main_process:
            return unet
        plain = SpatioTemporalUNet(**{k: v for k, v in dict(unet.config).items() if not k.startswith("_")})
        plain.load_state_dict(tensors, assign=True)
        return plain.train(unet.training)
