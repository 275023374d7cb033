"""The FLOPs of a training step, for achieved TFLOP/s, MFU and the hours of a plan.

A multiply-accumulate is 2 operations, as in `mobilevd.model.flops`. The backward pass through a layer costs its forward
pass once for the gradient of its input and once more for that of its weights; frozen weights cost the first alone.
Optimizer, norms, activations and sums do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mobilevd.codecs.base import Codec
from mobilevd.config.objectives import AdversarialSettings, ObjectiveSettings
from mobilevd.model.flops import count_flops
from mobilevd.model.unet import SpatioTemporalUNet
from training.discriminator import MAP_CHANNELS, SPATIAL, TEMPORAL


@dataclass(frozen=True)
class ForwardFlops:
    """FLOPs of the forward passes of a step's parts, for one clip.

    Attributes:
        unet: the model that is trained.
        encoder: the discriminator's frozen encoder.
        heads: the discriminator's heads.
        teacher: the one-step model whose outputs are learned.
        conditioning: the codec's encoding of the noised first frame.
    """

    unet: float
    encoder: float = 0.0
    heads: float = 0.0
    teacher: float = 0.0
    conditioning: float = 0.0


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of a training step for one clip.

    Attributes:
        model: what the step needs; MFU is of these.
        recomputed: what gradient checkpointing computes a second time.
    """

    model: float
    recomputed: float = 0.0

    @property
    def total(self) -> float:
        """All that is computed; hours follow from it."""
        return self.model + self.recomputed


def trained_step(forward: float, trained_share: float = 1.0, checkpointing: bool = False) -> StepFlops:
    """Forward and backward pass of a model of which a share of the weights (by FLOPs) is trained: 3x the forward if all."""
    return StepFlops(forward * (2 + trained_share), forward if checkpointing else 0.0)


def step_flops(
    settings: ObjectiveSettings,
    parts: ForwardFlops,
    checkpointing: bool = False,
    trained_share: float = 1.0,
    generator_trains: bool = True,
) -> StepFlops:
    """FLOPs of a step of an objective for one clip.

    Denoising: 3 U. With a teacher: + its forward. Adversarial: the discriminator's phase generates (U), encodes real and
    generated clips (2 E) and trains the heads on both (6 H, and 3 H more for R1: its gradient's own gradient, or a pass
    on noised features); the generator's phase takes 3 U, goes through encoder and heads and back to their input
    (2 E + 2 H). With `updates: shared` the generator's pass and its features serve both (U + E less).

    Args:
        trained_share: share of the UNet's FLOPs whose weights are trained (1: all; LoRA: about 0).
        generator_trains: false in the first steps of an adversarial stage, which train the heads alone.
    """
    model, again = 0.0, 0.0
    if isinstance(settings, AdversarialSettings):
        penalty = 3 * parts.heads if settings.r1_weight > 0 else 0.0
        model += parts.conditioning + parts.unet + 2 * parts.encoder + 6 * parts.heads + penalty
        if settings.updates == "shared" and generator_trains:
            model -= parts.conditioning + parts.unet + parts.encoder
    if generator_trains:
        own = trained_step(parts.unet, trained_share, checkpointing)
        model += parts.conditioning + own.model + (parts.teacher if settings.has_teacher else 0.0)
        again += own.recomputed
        if isinstance(settings, AdversarialSettings):
            model += 2 * parts.encoder + 2 * parts.heads
            again += parts.encoder if checkpointing else 0.0
    return StepFlops(model, again)


def forward_flops(
    unet: SpatioTemporalUNet | Mapping[str, Any],
    latents: tuple[int, int, int],
    settings: ObjectiveSettings,
    codec: Codec | None = None,
    encoder: SpatioTemporalUNet | Mapping[str, Any] | None = None,
    teacher: SpatioTemporalUNet | Mapping[str, Any] | None = None,
) -> ForwardFlops:
    """Count the parts of an objective's step without running them; models may be given by their configs.

    They are counted as they compute in training (`Backbone.set_training_form`), so a model with full cross-attention has
    fewer FLOPs here than in the table.

    Args:
        latents: frames, height and width of the latents.
        codec: encodes first frames; None leaves that out.
        encoder: the model whose encoder the discriminator has.
        teacher: the model whose outputs are learned.
    """
    features, heads = 0.0, 0.0
    if isinstance(settings, AdversarialSettings) and encoder is not None:
        features, heads = _discriminator_flops(_config_of(encoder), latents, settings.heads_depth)
    return ForwardFlops(
        unet=count_flops(unet, *latents, training_form=True).flops,
        encoder=features,
        heads=heads,
        teacher=0.0
        if teacher is None or not settings.has_teacher
        else count_flops(teacher, *latents, training_form=True).flops,
        conditioning=0.0 if codec is None else _conditioning_flops(codec, latents),
    )


def _config_of(model: SpatioTemporalUNet | Mapping[str, Any]) -> dict[str, Any]:
    source = model.config if isinstance(model, SpatioTemporalUNet) else model
    return {key: value for key, value in dict(source).items() if not key.startswith("_")}


def heads_flops(features: Sequence[torch.Size], depth: int) -> float:
    """FLOPs of the discriminator's heads on feature maps (T, C_i, h_i, w_i) of one clip (`training.discriminator`).

    Per position: into 64 channels, `depth` convolutions of 3x3 (spatial head) or 3x1 (temporal head), the comparison with
    the condition, and the logit.
    """
    width, total = MAP_CHANNELS, 0
    for frames, channels, rows, columns in features:
        for kernel in (SPATIAL, TEMPORAL):
            per_position = channels * width + depth * width * width * kernel[0] * kernel[1] + width * width + width
            total += 2 * frames * rows * columns * per_position
    return float(total)


def _discriminator_flops(config: dict[str, Any], latents: tuple[int, int, int], depth: int) -> tuple[float, float]:
    """FLOPs of the encoder's forward pass, and of the heads'."""
    frames, height, width = latents
    shapes: list[torch.Size] = []
    with torch.device("meta"):
        unet = SpatioTemporalUNet(**config)
        unet.set_training_form()
        ids = int(unet.config["projection_class_embeddings_input_dim"]) // int(unet.config["addition_time_embed_dim"])
        sample = torch.empty(1, frames, unet.latent_channels + unet.condition_channels, height, width)
        inputs = sample, torch.empty(1), torch.empty(1, 1, unet.context_dim), torch.empty(1, ids)
        encoder = _counted(lambda: shapes.extend(feature.shape for feature in unet.encoder_features(*inputs)))
    return encoder, heads_flops(shapes, depth)


def _conditioning_flops(codec: Codec, latents: tuple[int, int, int]) -> float:
    height, width = latents[1] * codec.spatial_factor, latents[2] * codec.spatial_factor
    weight = next(codec.parameters(), torch.empty(0))
    with FakeTensorMode(allow_non_fake_inputs=True):
        image = torch.empty(1, 3, height, width, device=weight.device, dtype=weight.dtype)
        return _counted(lambda: codec.encode_condition(image))


def _counted(work: Callable[[], Any]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
