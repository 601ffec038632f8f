"""Poisson batches: their distribution, empty ones, and what is not Poisson."""

import numpy as np
import pytest
import torch
from opacus.data_loader import DPDataLoader
from scipy import stats
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.privacy.adapters.poisson import (
    PoissonBatchSampler,
    drawn_rate,
    empty_of,
    poisson_rate,
    with_empty_batches,
)

ALARM = 1e-6  # how often a test with a fixed seed would have failed by chance


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_each_example_joins_independently_with_the_stated_probability():
    rate, steps, population = 0.3, 4000, 12
    sampler = PoissonBatchSampler(population, rate, steps=steps, generator=seeded(1))
    joined = np.zeros((steps, population))
    for row, batch in zip(joined, sampler, strict=True):
        row[batch] = 1
    # sizes are binomial
    sizes = np.bincount(joined.sum(axis=1).astype(int), minlength=population + 1)
    wanted = steps * stats.binom.pmf(np.arange(population + 1), population, rate)
    few = wanted < 5
    observed = np.append(sizes[~few], sizes[few].sum())
    expected = np.append(wanted[~few], wanted[few].sum())
    assert stats.chisquare(observed, expected).pvalue > ALARM
    # each joins with that rate, and no two joinings are correlated
    z = (joined.mean(axis=0) - rate) / np.sqrt(rate * (1 - rate) / steps)
    assert 2 * population * stats.norm.sf(np.abs(z).max()) > ALARM
    pairs = np.corrcoef(joined.T)[np.triu_indices(population, 1)] * np.sqrt(steps)
    assert 2 * len(pairs) * stats.norm.sf(np.abs(pairs).max()) > ALARM
    # nor with the step before
    lagged = np.corrcoef(joined[1:].ravel(), joined[:-1].ravel())[0, 1]
    assert 2 * stats.norm.sf(abs(lagged) * np.sqrt(joined[1:].size)) > ALARM


def test_parts_of_a_batch_are_the_batch():
    whole = PoissonBatchSampler(50, 0.4, steps=5, generator=seeded(2))
    cut = PoissonBatchSampler(50, 0.4, steps=5, parts=3, generator=seeded(2))
    assert len(cut) == 15
    pieces = list(cut)
    for number, batch in enumerate(whole):
        first, second, third = pieces[3 * number : 3 * number + 3]
        assert batch == first + second + third


def test_two_samplers_do_not_draw_the_same():
    torch.manual_seed(3)
    one = list(PoissonBatchSampler(50, 0.4, steps=5))
    torch.manual_seed(3)
    assert list(PoissonBatchSampler(50, 0.4, steps=5)) != one


@pytest.mark.parametrize("rate", [1e-6, 1e-3, 0.05, 1 / 93, 0.7])
def test_drawn_rates_are_those_of_the_numbers_compared(rate):
    """The count of 24-bit numbers below the rate, as PyTorch compares them."""
    grid = torch.arange(2**24, dtype=torch.float64).mul(2.0**-24).to(torch.float32)
    assert (grid < rate).sum().item() / 2**24 <= drawn_rate(rate)
    assert rate <= drawn_rate(rate) <= rate + 2.0**-23
    # and 24-bit numbers are what it draws
    drawn = torch.rand(10_000, generator=seeded(4)).double() * 2.0**24
    assert torch.equal(drawn, drawn.round())


def test_poisson_loaders_are_recognised_through_wrappers():
    data = TensorDataset(torch.randn(40, 2))
    sampler = PoissonBatchSampler(40, 0.25, steps=4)
    assert poisson_rate(DataLoader(data, batch_sampler=sampler)) == 0.25
    assert poisson_rate(DPDataLoader(data, sample_rate=0.1)) == drawn_rate(0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 4, "shuffle": True},
        {"batch_size": 4},
        {"batch_sampler": BatchSampler(RandomSampler(range(40), True), 4, False)},
    ],
)
def test_loaders_that_are_not_poisson_are_named_and_refused(options):
    loader = DataLoader(TensorDataset(torch.randn(40, 2)), **options)
    with pytest.raises(UnsoundThreatModelError, match=r"BatchSampler over \w*Sampler"):
        poisson_rate(loader)


def test_an_empty_batch_has_the_form_of_others_and_no_data():
    data = [{"input_ids": torch.ones(3), "labels": torch.ones(3)}] * 2
    collate = with_empty_batches(torch.utils.data.default_collate, data[0])
    assert collate(data)["labels"].shape == (2, 3)
    found = collate([])
    assert found["labels"].tolist() == [[-100.0] * 3]
    assert found["input_ids"].tolist() == [[0.0] * 3]
    x, y = empty_of([torch.ones(4, 2), torch.ones(4)])
    assert (x.shape, y.shape) == ((0, 2), (0,))


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"population": 0}, "population"),
        ({"rate": 1.2}, "rate"),
        ({"parts": 0}, "parts"),
    ],
)
def test_bad_arguments(bad, name):
    with pytest.raises(InvalidArgumentError, match=name):
        PoissonBatchSampler(**{"population": 5, "rate": 0.1, "steps": 1} | bad)
