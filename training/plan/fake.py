"""Models and passes of fake tensors: sizes and types are those of the real ones, values and memory there are none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

ModuleT = TypeVar("ModuleT", bound=nn.Module)

# What autocast on a GPU computes in float32 and autocast on a CPU does not, among what a UNet calls
# (https://docs.pytorch.org/docs/stable/amp.html): its inputs are cast, and the casts are kept for the backward pass.
_FLOAT32_ON_GPUS = {F.group_norm, F.layer_norm, torch.group_norm, torch.layer_norm, torch.softmax, F.softmax}


class _Calls(TorchFunctionMode):
    """Calls of PyTorch among fake tensors on the CPU, made as a GPU would see them if `gpu`."""

    def __init__(self, gpu: bool) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = {key: value for key, value in (kwargs or {}).items() if key != "generator"}  # there are no values
        if self.gpu:
            if func is Tensor.is_cpu.__get__:  # type: ignore[attr-defined]
                return False
            if func in _FLOAT32_ON_GPUS and torch.is_autocast_enabled("cpu"):
                args = tuple(each.float() if isinstance(each, Tensor) else each for each in args)
        return func(*args, **kwargs)


@contextlib.contextmanager
def fake_tensors(gpu: bool) -> Iterator[None]:
    """Make all tensors fake: no memory, no values. With `gpu`, types and kernels are those of a GPU.

    The fake tensors lie on the CPU even so, because autograd needs a GPU's driver for those of a GPU.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), _Calls(gpu):
        yield


def make_fake(module: ModuleT, gpu: bool, dtype: torch.dtype | None = None) -> ModuleT:
    """Replace a module's weights and buffers by fake ones (inside `fake_tensors`), in `dtype` if it is given.

    The weights may be on the meta device.
    """
    for part in module.modules():
        if gpu and not any(True for _ in part.children()):
            _as_on_a_gpu(part)
        for name, weight in part._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=dtype or weight.dtype, device="cpu")
                part._parameters[name] = nn.Parameter(fake, requires_grad=weight.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")
    return module


def _as_on_a_gpu(layer: nn.Module) -> None:
    """Let a layer be called as on a GPU when it runs again in the backward pass, too, where no mode is in force."""
    forward = layer.forward

    def called(*args: Any, **kwargs: Any) -> Any:
        with _Calls(gpu=True):
            return forward(*args, **kwargs)

    layer.forward = called


def weight_bytes(module: object, trained: bool = False) -> int:
    """Bytes of a module's weights, or of those alone that are trained."""
    parameters = cast(nn.Module, module).parameters()
    return sum(p.numel() * p.element_size() for p in parameters if p.requires_grad or not trained)
