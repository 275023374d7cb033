"""Sampling against diffusers' own scheduler and pipeline, with random weights of the same classes."""

import math
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, StableVideoDiffusionPipeline
from diffusers import UNetSpatioTemporalConditionModel as DiffusersUNet
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from mobilevd.codecs import load_codec
from mobilevd.diffusion.conditioning import condition_on_image
from mobilevd.diffusion.preconditioning import c_noise
from mobilevd.diffusion.sampling import frame_guidance, function_evaluations, sample_euler
from mobilevd.diffusion.sigmas import karras_sigmas
from mobilevd.model.unet import SpatioTemporalUNet

# the scheduler_config.json of the published SVD checkpoint
SVD_SCHEDULER = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
}


def test_grid_and_noise_levels_are_the_schedulers() -> None:
    scheduler = EulerDiscreteScheduler(**SVD_SCHEDULER)
    scheduler.set_timesteps(25)
    ours = karras_sigmas(25)
    torch.testing.assert_close(ours.float(), scheduler.sigmas[:-1], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(c_noise(ours).float(), scheduler.timesteps.float(), rtol=1e-5, atol=1e-6)
    assert float(ours[0]) == pytest.approx(700) and float(ours[-1]) == pytest.approx(0.002)


def test_first_three_points_of_the_four_step_grid() -> None:
    """700, 70.5, 2.27 by hand: (700^(1/7) + i/3 (0.002^(1/7) - 700^(1/7)))^7."""
    low, high = 0.002 ** (1 / 7), 700 ** (1 / 7)
    expected = [(high + i / 3 * (low - high)) ** 7 for i in range(4)]
    assert karras_sigmas(4).tolist() == pytest.approx(expected)
    assert karras_sigmas(1).tolist() == [700.0]


def test_function_evaluations_count_guidance() -> None:
    assert function_evaluations(25, frame_guidance(14, 1.0, 3.0)) == 50  # the paper's NFE
    assert function_evaluations(25, frame_guidance(14, 1.0, 1.0)) == 25
    assert function_evaluations(1, None) == 1


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    torch.manual_seed(0)
    unet = DiffusersUNet(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        num_attention_heads=(2, 4),
        cross_attention_dim=32,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        num_frames=4,
    )
    vae_class: Any = AutoencoderKLTemporalDecoder  # its annotations allow one block only
    vae = vae_class(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1, latent_channels=4
    )
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            projection_dim=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=224,
            patch_size=56,
        )
    )
    extractor = CLIPImageProcessor(crop_size=224, size=224)
    made = StableVideoDiffusionPipeline(
        unet=unet,
        vae=vae,
        image_encoder=clip,
        feature_extractor=extractor,
        scheduler=EulerDiscreteScheduler(**SVD_SCHEDULER),
    )
    folder = str(tmp_path_factory.mktemp("svd"))
    made.save_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made, folder


@pytest.mark.parametrize("guidance_max", [1.0, 3.0])
def test_the_whole_path_agrees_with_diffusers_pipeline(pipeline: tuple[Any, str], guidance_max: float) -> None:
    """Image -> latents through our codec, conditioning, UNet and sampler, against `StableVideoDiffusionPipeline`."""
    theirs, folder = pipeline
    rows = torch.linspace(0, 255, 16).byte()
    image = Image.fromarray(
        torch.stack([rows.expand(16, 16), rows.expand(16, 16).T, rows.flip(0).expand(16, 16)], -1).numpy()
    )
    frames, strength = 4, 0.02
    noise = torch.randn(1, frames, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = theirs(
        image, height=16, width=16, num_frames=frames, num_inference_steps=5, fps=7, motion_bucket_id=100,
        noise_aug_strength=strength, min_guidance_scale=1.0, max_guidance_scale=guidance_max,
        generator=torch.Generator().manual_seed(2), latents=noise.clone(), output_type="latent",
    ).frames  # fmt: skip

    codec = load_codec(folder)
    unet = SpatioTemporalUNet.from_svd(folder + "/unet")
    pixels = theirs.video_processor.preprocess(image, height=16, width=16)
    conditions = condition_on_image(codec, pixels, None, 7, 100, strength, torch.Generator().manual_seed(2))
    # on 16x16 pictures CLIP's antialiased resize must be the pipeline's own to the last digit
    ours = sample_euler(unet, noise, karras_sigmas(5), conditions, frame_guidance(frames, 1.0, guidance_max))
    assert float((ours - expected).norm() / expected.norm()) < 1e-4
    assert math.isfinite(float(ours.sum()))
