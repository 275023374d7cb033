"""The contract of a transform of the architecture, and the function that makes most of the changed models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from mobilevd.config.transforms import TransformSettings
from mobilevd.model.unet import SpatioTemporalUNet

SettingsT = TypeVar("SettingsT", bound=TransformSettings)


class Transform(Generic[SettingsT]):
    """A change of the architecture in two moments, around a stage's training. This one changes nothing.

    A transform holds its settings only. Whatever training needs is in the model and its config, so that a run that was
    interrupted continues with the model loaded from its folder and a transform made anew.
    """

    def __init__(self, settings: SettingsT) -> None:
        self.settings = settings

    def begin(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        """Return the model to train, with funnels and gates put in; may be `unet` itself."""
        return unet

    def finish(self, unet: SpatioTemporalUNet) -> SpatioTemporalUNet:
        """Return the model after training, with funnels merged and gated-off blocks deleted."""
        return unet

    def before_step(self, unet: SpatioTemporalUNet, generator: torch.Generator) -> None:
        """Change the model before each training step; all randomness comes from `generator` (CPU)."""

    def after_step(self, unet: SpatioTemporalUNet) -> None:
        """Undo after each step what `before_step` changed in the model."""

    def learning_rates(self) -> dict[str, float]:
        """Learning rates of parameters that need their own, by the ending of the parameter's name."""
        return {}


def rebuild(
    unet: SpatioTemporalUNet, tensors: Mapping[str, Tensor] | None = None, **changes: Any
) -> SpatioTemporalUNet:
    """A new model of `unet`'s config with `changes`, its weights copied from `unet` except those given in `tensors`.

    Strict: every weight of the new model must come from one of the two in its right shape. Weights of `unet` that have
    no place in the new model are left out. Training mode, device and dtype are kept.
    """
    target = unet.derive(**changes)
    source = {**unet.state_dict(), **(tensors or {})}
    with torch.no_grad():
        for name, place in target.state_dict().items():
            if name not in source or source[name].shape != place.shape:
                got = tuple(source[name].shape) if name in source else "nothing"
                raise RuntimeError(f"rebuilding the UNet: {name} wants {tuple(place.shape)}, there is {got}")
            place.copy_(source[name])
    return target.train(unet.training)
