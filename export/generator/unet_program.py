"""The bundle's first program: the folded one-step generator, with the inputs it is proven and calibrated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from device_runner.bundle.manifest import CountsEntry, GraphEntry
from device_runner.bundle.whole_path import ADDED_TIME_IDS, IMAGE_EMBEDDING, IMAGE_LATENTS, LATENTS, NOISE, UNET
from export.generator.folding import fold_for_phone
from export.generator.one_step import INPUTS, OneStepGenerator, OneStepSettings
from export.program.finite import check_references, check_weights
from export.program.operator_counts import OperatorCounts, count_operators
from export.program.program import Inputs, Program
from mobilevd.diffusion.preconditioning import Conditions, denoise
from mobilevd.errors import UserError
from mobilevd.model.unet import SpatioTemporalUNet

NOISE_SEED = 0  # seed of the noise inputs that parity is checked on, besides the given ones
CALIBRATION_SEED = 1  # seed of the noise inputs that ranges are taken from
CALIBRATION_INPUTS = 8


def unet_program(
    unet: SpatioTemporalUNet,
    settings: OneStepSettings,
    inputs: Mapping[str, Tensor] | None = None,
    calibration: Sequence[Mapping[str, Tensor]] = (),
    consume: bool = False,
) -> Program:
    """Return the folded generator of a finished model; the model is not changed unless it may be consumed.

    Args:
        inputs: real `image_latents` (1, 4, h, w) and `image_embedding` (1, 1, D), and `noise` (T, 4, h, w) if wanted;
            checked as a case of its own besides noise.
        consume: the caller no longer needs the model, which saves half the memory.
        calibration: further inputs of this kind, to take quantized ranges from; noise is drawn where it is missing. If
            empty, noise alone is used.

    Raises:
        UserError: unfinished model, size that does not fit it, wrong inputs, weights or outputs that are not finite.
    """
    check_weights(UNET, unet)
    unet.check_size(settings.num_frames, settings.latent_height, settings.latent_width)
    was_training = unet.training
    generator = OneStepGenerator(unet.eval(), settings)
    try:
        shapes = _shapes(unet, settings)
        noise = _noise(shapes, settings, NOISE_SEED)
        cases = {"noise": noise}
        if inputs is not None:
            cases["latents"] = _checked(inputs, shapes, noise)
        with torch.no_grad():
            references = {kind: [generator(*tensors.values())] for kind, tensors in cases.items()}
        check_references(UNET, generator, cases, references)
    finally:
        unet.train(was_training)
    generator.unet = fold_for_phone(unet, None if settings.conditioning_inputs else generator.embedding, consume)
    drawn = [_noise(shapes, settings, CALIBRATION_SEED + i) for i in range(len(calibration) or CALIBRATION_INPUTS)]
    given = (
        [_checked(one, shapes, other) for one, other in zip(calibration, drawn, strict=False)] if calibration else drawn
    )
    return Program(UNET, generator.eval(), cases, references, (LATENTS,), given)


def count_before(unet: SpatioTemporalUNet, settings: OneStepSettings) -> OperatorCounts:
    """Operators and operations of one evaluation before folding, with noise level and conditioning as inputs."""

    class Unfolded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, noise: Tensor, image: Tensor, embedding: Tensor, sigma: Tensor, ids: Tensor) -> Tensor:
            conditions = Conditions(image, embedding, ids)
            return denoise(self.unet, noise[None] * sigma, sigma, conditions)[0]

    shapes = _shapes(unet, settings)
    inputs = (*_noise(shapes, settings, NOISE_SEED).values(),)[: len(INPUTS)]
    was_training = unet.training
    unet.eval()
    try:
        with torch.no_grad():
            arguments = (*inputs, torch.tensor([settings.sigma]), settings.time_ids())
            return count_operators(torch.export.export(Unfolded(), arguments, strict=False))
    finally:
        unet.train(was_training)


def folding_report(before: OperatorCounts, program: Program) -> GraphEntry:
    """The manifest's `graph` entry: a program's cost before and after folding, both in PyTorch's own operators."""
    after = count_operators(program.graph(phone_form=False))
    return GraphEntry(CountsEntry(**vars(before)), CountsEntry(**vars(after)))


def _shapes(unet: SpatioTemporalUNet, settings: OneStepSettings) -> dict[str, tuple[int, ...]]:
    size = (settings.latent_height, settings.latent_width)
    return {
        NOISE: (settings.num_frames, unet.latent_channels, *size),
        IMAGE_LATENTS: (1, unet.condition_channels, *size),
        IMAGE_EMBEDDING: (1, 1, unet.context_dim),
    }


def _noise(shapes: Mapping[str, tuple[int, ...]], settings: OneStepSettings, seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    drawn = {key: torch.randn(shapes[key], generator=random) for key in INPUTS}
    return {**drawn, ADDED_TIME_IDS: settings.time_ids()} if settings.conditioning_inputs else drawn


def _checked(inputs: Inputs, shapes: Mapping[str, tuple[int, ...]], noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the given inputs in the program's order; those that are missing come from `noise`."""
    if unknown := set(inputs) - set(noise):
        raise UserError(f"export: unknown input {sorted(unknown)[0]!r}; the program takes {', '.join(noise)}")
    complete = {}
    for key, drawn in noise.items():
        tensor = inputs.get(key, drawn if key in (NOISE, ADDED_TIME_IDS) else None)
        if tensor is None:
            raise UserError(f"export: the input {key} is missing; real inputs need image_latents and image_embedding")
        if tuple(tensor.shape) != tuple(drawn.shape):
            raise UserError(
                f"export: the input {key} has shape {tuple(tensor.shape)}, the program's is {tuple(drawn.shape)}"
            )
        complete[key] = tensor.detach().to("cpu", torch.float32).contiguous()
    return complete
