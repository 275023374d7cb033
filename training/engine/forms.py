"""The form in which models compute while they, or others through them, are trained."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from mobilevd.model.backbone import Backbone


def set_forms(modules: Iterable[nn.Module], gradient_checkpointing: bool) -> None:
    """Set the form of every denoiser in `modules`, those inside of others included; the function stays the same."""
    for module in modules:
        for part in module.modules():
            if isinstance(part, Backbone):
                part.set_training_form()
                part.set_gradient_checkpointing(gradient_checkpointing)
