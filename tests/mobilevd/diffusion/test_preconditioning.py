"""EDM's identities and the noise distributions, against closed forms."""

import math

import pytest
import torch

from mobilevd.diffusion.conditioning import added_time_ids
from mobilevd.diffusion.preconditioning import Conditions, c_in, c_noise, c_out, c_skip, denoise, loss_weight
from mobilevd.diffusion.sampling import generate_one_step, sample_euler
from mobilevd.diffusion.sigmas import discretized_lognormal_weights, karras_sigmas


def conditions(batch: int) -> Conditions:
    return Conditions(torch.randn(batch, 4, 2, 2), torch.zeros(batch, 1, 3), added_time_ids(batch, 7, 127, 0.02))


def test_micro_conditioning_is_fps_minus_one() -> None:
    assert added_time_ids(1, 7, 127, 0.5).tolist() == [[6.0, 127.0, 0.5]]


def test_identities_of_the_preconditioning() -> None:
    """For unit-variance data: Var(c_in x) = 1, Var of the network's target = 1, loss weight = 1 / c_out^2."""
    sigma = torch.tensor([0.002, 0.5, 1.0, 70.0, 700.0], dtype=torch.float64)
    torch.testing.assert_close(c_in(sigma) ** 2 * (1 + sigma**2), torch.ones(5, dtype=torch.float64))
    # target (x0 - c_skip x) / c_out with x = x0 + s n: variance ((1 - c_skip)^2 + c_skip^2 s^2) / c_out^2
    variance = ((1 - c_skip(sigma)) ** 2 + c_skip(sigma) ** 2 * sigma**2) / c_out(sigma) ** 2
    torch.testing.assert_close(variance, torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(loss_weight(sigma), 1 / c_out(sigma) ** 2)


def test_a_perfect_network_recovers_the_data_in_one_euler_step_and_in_many() -> None:
    """If F answers with the true target, D(x; s) = x0 at every s, and the sampler ends at x0."""
    x0 = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64)

    def network(sample: torch.Tensor, timestep: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        s = torch.exp(4 * timestep.double())[:, None, None, None, None]
        x = sample[:, :, :4] / c_in(s)
        return (x0 - c_skip(s) * x) / c_out(s)

    noise = torch.randn_like(x0)
    sigma = torch.full((2,), 3.0)
    torch.testing.assert_close(denoise(network, x0 + 3 * noise, sigma, conditions(2)), x0, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(generate_one_step(network, noise, 700.0, conditions(2)), x0, rtol=1e-3, atol=1e-2)
    out = sample_euler(network, noise, karras_sigmas(5), conditions(2))
    torch.testing.assert_close(out, x0, rtol=1e-3, atol=1e-3)


def test_the_sampler_follows_the_exact_flow_of_a_gaussian() -> None:
    """Data N(0, 1): D(x; s) = x / (1 + s^2), and the flow maps x at s to x sqrt(1 / (1 + s^2)) at 0."""

    def network(sample: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(sample[:, :, :4])  # c_skip x is the optimal denoiser: the network has nothing to add

    noise = torch.randn(1, 2, 4, 2, 2, dtype=torch.float64)
    out = sample_euler(network, noise, karras_sigmas(2000), conditions(1))
    torch.testing.assert_close(out, noise, rtol=5e-3, atol=0)


def test_guidance_scales_each_frame() -> None:
    """With D = c + condition, guidance g moves the estimate by (g - 1) of the condition's effect, frame by frame."""

    def network(sample: torch.Tensor, timestep: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        s = torch.exp(4 * timestep)[:, None, None, None, None]
        return (sample[:, :, 4:] - c_skip(s) * sample[:, :, :4] / c_in(s)) / c_out(s)  # D(x; s) = image latents

    cond = conditions(1)
    guidance = torch.tensor([1.0, 2.0, 3.0])
    out = sample_euler(network, torch.randn(1, 3, 4, 2, 2), karras_sigmas(5), cond, guidance)
    expected = guidance[None, :, None, None, None] * cond.image_latents[:, None]
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=1e-3)


def test_discretized_lognormal_keeps_to_the_grid_and_to_the_distribution() -> None:
    grid = karras_sigmas(1000)
    weights = discretized_lognormal_weights(grid, -1.0, 1.0)
    chosen = torch.multinomial(weights, 40000, replacement=True, generator=torch.Generator().manual_seed(0))
    drawn = grid[chosen].float()
    assert torch.isin(drawn, grid.float()).all()
    logs = drawn.log()
    assert abs(float(logs.mean()) + 1.0) < 0.03 and abs(float(logs.std()) - 1.0) < 0.03
    below = float((logs < -2.0).float().mean())  # one deviation below the mean
    assert abs(below - 0.5 * (1 + math.erf(-1 / math.sqrt(2)))) < 0.01


def test_c_noise_is_a_quarter_of_the_log() -> None:
    assert float(c_noise(torch.tensor(math.e))) == pytest.approx(0.25, abs=1e-6)  # logarithms differ in the last bit
