"""The bytes that are alive in a computation, and its operations: counted operator by operator, with no memory at all."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten: Any = torch.ops.aten
_SCALAR = aten._local_scalar_dense.default
_CONVOLUTIONS = (aten.convolution.default, aten.convolution_backward.default)
_FORMULAS: dict[Any, Any] = {
    **flop_registry,  # has all kernels of attention but the processor's
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[aten._scaled_dot_product_flash_attention],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        aten._scaled_dot_product_flash_attention_backward
    ],
}


class LiveBytes(TorchDispatchMode):
    """A mode that follows every storage made inside it until it is freed, among fake tensors.

    Storages are followed by weak references, so whatever holds one counts: a variable, what autograd saved for the
    backward pass, casts that autocast keeps, a checkpoint. What exists before the mode (weights) is not counted.

    Args:
        trained: modules whose parameters' gradients are counted apart, from the moment they are accumulated.
        shards: gradients leave at once, to the shards of other processes (FSDP).

    Attributes:
        live: bytes alive now, without gradients of parameters.
        gradients: bytes of those gradients.
        peak: largest `live`, scratch memory of the running operator included.
        peak_with_gradients: largest `live + gradients`, likewise.
        flops: floating-point operations, 2 per multiply-accumulate, with PyTorch's formula for each operator.
    """

    def __init__(self, trained: Iterable[nn.Module] = (), shards: bool = False) -> None:
        super().__init__()
        self.live = self.gradients = self.peak = self.peak_with_gradients = self.flops = 0
        self._shards = shards
        self._sizes: dict[int, int] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        self._gradients: set[int] = set()
        self._handles = [
            parameter.register_post_accumulate_grad_hook(self._accumulated)
            for module in trained
            for parameter in module.parameters()
            if parameter.requires_grad
        ]

    def __exit__(self, *exception: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*exception)

    def _accumulated(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        if self._shards:
            parameter.grad = None
            return
        key = parameter.grad.untyped_storage()._cdata
        if key in self._sizes and key not in self._gradients:
            self._gradients.add(key)
            self.live -= self._sizes[key]
            self.gradients += self._sizes[key]

    def _freed(self, key: int) -> None:
        del self._references[key]
        size = self._sizes.pop(key)
        if key in self._gradients:
            self._gradients.discard(key)
            self.gradients -= size
        else:
            self.live -= size

    def _follow(self, tensor: Tensor, arguments: set[int]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes or key in arguments:  # a view of weights, or an operator in place
            return
        self._references[key] = weakref.ref(storage, lambda _: self._freed(key))
        self._sizes[key] = storage.nbytes()
        self.live += self._sizes[key]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is _SCALAR:
            return 1.0 if args[0].dtype.is_floating_point else 1  # fake tensors have no values
        out = func(*args, **kwargs)
        outputs = [each for each in (out if isinstance(out, tuple | list) else (out,)) if isinstance(each, Tensor)]
        if outputs:
            arguments = {each.untyped_storage()._cdata for each in args if isinstance(each, Tensor)}
            for each in outputs:
                self._follow(each, arguments)
        now = self.live + (_scratch(args, outputs) if func in _CONVOLUTIONS else 0)
        self.peak = max(self.peak, now)
        self.peak_with_gradients = max(self.peak_with_gradients, now + self.gradients)
        operator = func._overloadpacket
        if operator in _FORMULAS:
            self.flops += int(_FORMULAS[operator](*args, **kwargs, out_val=out))
        return out


def _scratch(args: tuple[Any, ...], outputs: list[Tensor]) -> int:
    """Bytes that a convolution takes while it runs: its tensors once more, in the order that its kernel wants."""
    tensors = [*(each for each in args if isinstance(each, Tensor)), *outputs]
    return sum(each.numel() * each.element_size() for each in tensors)
