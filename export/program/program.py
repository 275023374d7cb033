"""A program before it is lowered: the module in its final form, the inputs it is checked on, and their references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export

from mobilevd.model.layers.ops import set_phone_form

Inputs = Mapping[str, Tensor]
"""The inputs by name, in the order of the module's arguments."""


@dataclass(frozen=True)
class Program:
    """One graph of a bundle, before it is lowered to a target.

    Attributes:
        name: name of the program in the bundle and of its file: "unet", "decoder", ...
        module: the module for inference, in float32 on the CPU; the target chooses its operators' form
            (`set_phone_form`).
        cases: the inputs that parity is checked on, by kind ("noise", "latents"); the same names and shapes in each.
        references: the outputs of the eager model in float32, before anything was folded or rounded, by kind.
        outputs: names of the outputs.
        calibration: further inputs, none of them among `cases`, to take quantized ranges from.
    """

    name: str
    module: nn.Module
    cases: Mapping[str, Inputs]
    references: Mapping[str, Sequence[Tensor]]
    outputs: tuple[str, ...]
    calibration: Sequence[Inputs] = field(default_factory=tuple)

    _graphs: dict[bool, ExportedProgram] = field(default_factory=dict, init=False, repr=False, compare=False)

    def graph(self, phone_form: bool) -> ExportedProgram:
        """The module's graph in one of its two forms; traced once, whatever it is lowered to afterwards."""
        if phone_form not in self._graphs:
            set_phone_form(self.module, phone_form)
            with torch.no_grad():
                self._graphs[phone_form] = export(self.module, self.example, strict=False)
        return self._graphs[phone_form]

    @property
    def example(self) -> tuple[Tensor, ...]:
        """Inputs to trace with."""
        return tuple(next(iter(self.cases.values())).values())

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(next(iter(self.cases.values())))
