"""Draws of exactly n with prescribed probabilities."""

from __future__ import annotations

import pytest
import torch

from mobilevd.transforms.brewer import brewer_draw, inclusion_probabilities

DRAWS = 3000


def frequencies(probabilities: torch.Tensor, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    draws = torch.stack([brewer_draw(probabilities, generator) for _ in range(DRAWS)])
    assert torch.equal(draws.sum(1), probabilities.sum().round().long().expand(DRAWS))
    return draws.double().mean(0)


@pytest.mark.parametrize(
    "weights", [[1.0] * 6, [1, 2, 3, 4, 5, 6.0], [0.01, 0.1, 1, 1, 10, 2], [5, 0.2, 0.2, 0.2, 0.2, 0.2]]
)
@pytest.mark.parametrize("n", [1, 3, 5])
def test_exactly_n_are_drawn_each_with_its_probability(weights: list[float], n: int) -> None:
    p = inclusion_probabilities(torch.tensor(weights), n)
    assert float(p.sum()) == pytest.approx(n)
    found = frequencies(p)
    free = p < 1
    assert torch.all(found[~free] == 1)
    # each count is binomial; a bound of five deviations fails by chance less than once in 10^5 such tests
    deviation = (p * (1 - p) / DRAWS).sqrt().clamp(min=1e-4)
    assert torch.all(((found - p).abs() / deviation)[free] < 5)


def test_drawing_by_weight_alone_would_fail_that_test() -> None:
    """Successive draws in proportion to p, the naive way, do not have the inclusion probabilities p."""
    p = inclusion_probabilities(torch.tensor([1.0, 2, 3, 4, 5, 6]), 3)
    generator = torch.Generator().manual_seed(0)
    naive = torch.multinomial(p.expand(DRAWS, -1), 3, replacement=False, generator=generator)
    found = torch.nn.functional.one_hot(naive, 6).sum(1).double().mean(0)
    assert float(((found - p).abs() / (p * (1 - p) / DRAWS).sqrt()).max()) > 5


def test_the_pairs_are_not_all_alike() -> None:
    """Independent of the order: the last unit can be drawn first, and every pair occurs."""
    p = torch.full((4,), 0.5)
    generator = torch.Generator().manual_seed(1)
    pairs = {tuple(brewer_draw(p, generator).nonzero().flatten().tolist()) for _ in range(200)}
    assert len(pairs) == 6


def test_probabilities_are_proportional_to_the_weights_until_they_reach_1() -> None:
    p = inclusion_probabilities(torch.tensor([1.0, 2.0, 3.0, 4.0]), 2)
    torch.testing.assert_close(p, torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64))
    p = inclusion_probabilities(torch.tensor([1.0, 1.0, 2.0, 100.0, 9.0]), 3)
    torch.testing.assert_close(p, torch.tensor([0.25, 0.25, 0.5, 1.0, 1.0], dtype=torch.float64))


def test_certain_and_all() -> None:
    p = torch.tensor([1.0, 0.5, 0.0, 0.5, 1.0])
    found = frequencies(p)
    assert found[0] == found[4] == 1 and found[2] == 0
    everything = inclusion_probabilities(torch.rand(7) + 0.1, 7)
    assert torch.equal(everything, torch.ones(7, dtype=torch.float64))
    assert brewer_draw(everything, torch.Generator()).all()
    extreme = inclusion_probabilities(torch.tensor([1e-30, 1.0, 1e-30]), 1)
    assert brewer_draw(extreme, torch.Generator()).tolist() == [False, True, False]


@pytest.mark.parametrize("n", [0, -1, 5])
def test_impossible_numbers_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"{n} units cannot be drawn out of 4"):
        inclusion_probabilities(torch.ones(4), n)


def test_impossible_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to a positive whole number"):
        brewer_draw(torch.tensor([0.5, 0.4]), torch.Generator())
    with pytest.raises(ValueError, match="sum to a positive whole number"):
        brewer_draw(torch.zeros(3), torch.Generator())
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        brewer_draw(torch.tensor([1.5, 0.5]), torch.Generator())
    with pytest.raises(ValueError, match="positive finite weights"):
        inclusion_probabilities(torch.tensor([1.0, float("nan")]), 1)


def test_the_same_generator_gives_the_same_draws() -> None:
    p = torch.full((10,), 0.3)
    a, b = (torch.Generator().manual_seed(7) for _ in range(2))
    assert all(torch.equal(brewer_draw(p, a), brewer_draw(p, b)) for _ in range(20))
