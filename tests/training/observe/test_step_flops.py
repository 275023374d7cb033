"""A step's FLOPs against what torch counts in real steps of every objective."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mobilevd.config.objectives import AdversarialSettings, DenoiseSettings, DistillationSettings, ObjectiveSettings
from tests.mobilevd.unets import small_config
from tests.training.helpers import EMBEDDING, StridedCodec, small_unet
from training.discriminator import DiscriminatorHeads
from training.observe.step_flops import ForwardFlops, StepFlops, forward_flops, heads_flops, step_flops, trained_step

MATH = partial(sdpa_kernel, SDPBackend.MATH)  # torch's counter knows no fused attention of the CPU
PARTS = ForwardFlops(unet=100, encoder=30, heads=1, teacher=60, conditioning=7)


def test_by_hand() -> None:
    assert step_flops(DenoiseSettings(), PARTS) == StepFlops(307)
    assert step_flops(DenoiseSettings(), PARTS, checkpointing=True) == StepFlops(307, 100)
    assert step_flops(DistillationSettings(), PARTS) == StepFlops(367)
    assert step_flops(DenoiseSettings(), PARTS, trained_share=0.25) == StepFlops(232)
    heads = 7 + 100 + 60 + 9  # conditions, a clip, its and the real one's features, the heads with R1
    assert step_flops(AdversarialSettings(), PARTS, generator_trains=False) == StepFlops(heads)
    both = heads + 7 + 300 + 60 + 2
    assert step_flops(AdversarialSettings(), PARTS, checkpointing=True) == StepFlops(both, 130)
    assert step_flops(AdversarialSettings(updates="shared"), PARTS) == StepFlops(both - 7 - 100 - 30)
    assert step_flops(AdversarialSettings(r1_weight=0.0), PARTS) == StepFlops(both - 3)
    with_teacher = AdversarialSettings(distillation_weight=1.0)
    assert step_flops(with_teacher, PARTS) == StepFlops(both + 60)
    assert trained_step(100, checkpointing=True).total == 400


def test_a_denoising_step_is_what_torch_counts() -> None:
    unet = small_unet()
    unet.set_training_form()
    size = 4, 8, 8
    inputs = torch.randn(1, 4, 8, 8, 8), torch.zeros(1), torch.randn(1, 1, EMBEDDING), torch.zeros(1, 3)
    with MATH(), FlopCounterMode(display=False) as counter:
        unet(*inputs).sum().backward()
    counted = step_flops(DenoiseSettings(), forward_flops(unet, size, DenoiseSettings()))
    # the first layers have no gradient of their inputs, which the formula counts
    assert counted.model == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert counted.model >= counter.get_total_flops()


@pytest.mark.parametrize("settings", [AdversarialSettings(heads_depth=2), AdversarialSettings(distillation_weight=1.0)])
def test_the_parts_are_what_torch_counts(settings: AdversarialSettings) -> None:
    config = small_config(num_attention_heads=2, cross_attention_dim=EMBEDDING)
    unet = small_unet(**config)
    unet.set_training_form()
    sample = torch.randn(1, 4, 8, 8, 8)
    inputs = sample, torch.zeros(1), torch.randn(1, 1, EMBEDDING), torch.zeros(1, 3)
    parts = forward_flops(unet, (4, 8, 8), settings, StridedCodec(), unet, config)
    with torch.no_grad():
        with MATH(), FlopCounterMode(display=False) as counter:
            features = unet.encoder_features(*inputs)
        assert parts.encoder == counter.get_total_flops()
        heads = DiscriminatorHeads(unet.encoder_channels, EMBEDDING, settings.heads_depth)
        with MATH(), FlopCounterMode(display=False) as counter:
            for feature, spatial, temporal in zip(features, heads.spatial, heads.temporal, strict=True):
                spatial(feature, inputs[2][:, 0])
                temporal(feature.transpose(0, 1).flatten(2)[None], inputs[2][:, 0])
        assert parts.heads == pytest.approx(counter.get_total_flops(), rel=0.01)  # but for the mapped condition
    assert parts.heads == heads_flops([feature.shape for feature in features], settings.heads_depth)
    assert parts.teacher == (parts.unet if settings.has_teacher else 0)
    assert parts.conditioning == 0  # this codec multiplies nothing


def test_what_is_not_there_costs_nothing() -> None:
    settings: ObjectiveSettings = DenoiseSettings()
    parts = forward_flops(small_unet(), (4, 8, 8), settings, teacher=small_unet())
    assert (parts.encoder, parts.heads, parts.teacher) == (0, 0, 0)
