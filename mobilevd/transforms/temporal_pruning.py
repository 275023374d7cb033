"""Temporal block pruning: learn which temporal blocks matter, keep exactly n of them, delete the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mobilevd.config.transforms import TemporalPruningSettings
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet
from mobilevd.transforms.base import Transform, rebuild
from mobilevd.transforms.brewer import brewer_draw, inclusion_probabilities


class _StraightThrough(torch.autograd.Function):
    """The draw in the forward pass, d p / d importance in the backward pass.

    The Jacobian is kept outside autograd's saved tensors, so that one draw can serve several backward passes (gradient
    accumulation) before the next.
    """

    @staticmethod
    def forward(ctx: Any, importance: Tensor, drawn: Tensor, jacobian: Tensor) -> Tensor:
        ctx.jacobian = jacobian
        return drawn.to(importance)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None, None]:
        gradient = grad_outputs[0]
        return gradient @ ctx.jacobian.to(gradient), None, None


def gate_probabilities(importance: Tensor, n: int) -> Tensor:
    """Importance (N,) -> inclusion probabilities (N,), float64: p_i = min(1, c exp(importance_i)), sum n.

    With the exponential only differences of importance count, and a few hundred steps at a learning rate of 0.01 decide
    between blocks.
    """
    weights = torch.exp((importance.detach() - importance.detach().max()).double().cpu())
    return inclusion_probabilities(weights.clamp(min=1e-12), n)


def most_important(importance: Tensor, n: int) -> list[int]:
    """Indices of the n blocks that are kept at the end, rising; of equally important ones (N,) the earlier stay."""
    order = torch.argsort(importance.detach().float().cpu(), descending=True, stable=True)
    return sorted(order[:n].tolist())


def probability_jacobian(probabilities: Tensor) -> Tensor:
    """d p_i / d importance_j of `gate_probabilities`: (N,) -> (N, N).

    Certain blocks have zero rows and columns. The others share m = sum of their p, p_i = m exp(w_i) / sum exp(w), hence
    dp_i/dw_j = p_i (i == j) - p_i p_j / m.
    """
    free = torch.where(probabilities < 1, probabilities, 0.0)
    total = free.sum()
    return torch.diag(free) - torch.outer(free, free) / total.clamp(min=1e-12)


class TemporalPruning(Transform[TemporalPruningSettings]):
    """Keep `keep` temporal blocks: a number (11), or a fraction below 1 of those that the model has (0.3).

    In training one importance per temporal block (`unet.temporal_importance`) becomes inclusion probabilities; each
    step draws exactly n blocks by Brewer's method and gates the residuals of the others with 0; the gradient goes
    straight through the draw to the probabilities (MobileVD, "temporal block pruning"). At the end the n most
    important blocks are kept, the rest deleted. (An L1 penalty on the gates cannot fix the number of blocks.)
    """

    def blocks_to_keep(self, total: int) -> int:
        """The number of blocks kept out of `total`: at least 1, at most all."""
        keep = self.settings.keep
        return min(total, max(1, round(keep * total) if keep < 1 else int(keep)))

    def begin(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        names = unet.temporal_block_names()
        if not names:
            raise UserError("transform temporal_pruning: this UNet has no temporal blocks left")
        if unet.temporal_importance is not None:
            return unet
        return rebuild(unet, {"temporal_importance": torch.ones(len(names))}, temporal_gates=True)

    def before_step(self, unet: SpatioTemporalUNet, generator: torch.Generator) -> None:
        importance = unet.temporal_importance
        if importance is None:
            raise RuntimeError("temporal pruning: the model has no gates; call begin() first")
        mixers = list(unet.time_mixers().values())
        probabilities = gate_probabilities(importance, self.blocks_to_keep(len(mixers)))
        drawn = brewer_draw(probabilities, generator).to(importance.device)
        jacobian = probability_jacobian(probabilities).to(importance.device)
        gates = _StraightThrough.apply(importance, drawn, jacobian)
        for i, mixer in enumerate(mixers):
            mixer.gate = gates[i]

    def after_step(self, unet: SpatioTemporalUNet) -> None:
        for mixer in unet.time_mixers().values():
            mixer.gate = None

    def learning_rates(self) -> dict[str, float]:
        return {"temporal_importance": self.settings.learning_rate}

    def finish(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        importance = unet.temporal_importance
        if importance is None:
            raise RuntimeError("temporal pruning: the model has no gates; call begin() first")
        names = unet.temporal_block_names()
        count = self.blocks_to_keep(len(names))
        if importance.is_meta:  # no values to choose by
            importance = torch.ones(len(names), device="cpu")
        return keep_temporal_blocks(unet, [names[i] for i in most_important(importance, count)])


def keep_temporal_blocks(unet: SpatioTemporalUNet, names: list[str]) -> SpatioTemporalUNet:
    """Delete all temporal blocks but `names` (of `unet.temporal_block_names()`), and the gates if there are any.

    Exact: a temporal part is a gated residual, so without it the output is that with its gate at 0.
    """
    removed = [name for name in unet.temporal_block_names() if name not in names]
    widths = unet.config["inner_widths"]
    if widths is not None:  # the widths of deleted layers no longer describe anything
        gone = tuple(f"{name}.temporal_" for name in removed)
        widths = {key: width for key, width in widths.items() if not key.startswith(gone)}
    return rebuild(unet, temporal_blocks=list(names), temporal_gates=False, inner_widths=widths)
