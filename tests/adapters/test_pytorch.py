"""DP-SGD without a host: true gradients, paid steps, and no way around them."""

import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from scipy import stats

from drdp.errors import BudgetExceededError, InvalidArgumentError
from drdp.privacy.adapters.poisson import PoissonBatchSampler
from drdp.privacy.adapters.pytorch import paid_steps, private_steps
from drdp.privacy.calibration import within
from drdp.privacy.events import Gaussian, PoissonSampled, atoms
from drdp.privacy.ledger import Ledger
from tests.adapters.models import Receipts, regression

PARTS = {"clip_norm": 0.5, "noise_multiplier": 1.0}


class Silent:
    """A source of noise that is 0, to see what lies beneath."""

    def normal(self, count):
        return np.zeros(count)


def squared(model, x, y):
    return (model(x) - y).square().sum()


def ready(steps=50, rate=0.1):
    model, optimizer, loader = regression()
    sampler = PoissonBatchSampler(100, rate, steps=steps)
    return model, optimizer, loader.dataset.tensors, sampler


def test_gradients_are_clipped_sums_over_the_expected_size():
    model, optimizer, (x, y), sampler = ready()
    expected = [torch.zeros_like(p) for p in model.parameters()]
    for row in range(7):
        model.zero_grad()
        squared(model, x[row], y[row]).backward()
        own = [p.grad.clone() for p in model.parameters()]
        norm = torch.cat([g.flatten() for g in own]).norm()
        for total, g in zip(expected, own, strict=True):
            total.add_(g * min(1.0, 0.5 / norm) / 10.0)
    for chunk_size in (None, 2):
        with private_steps(optimizer, sampler=sampler, noise=Silent(), **PARTS) as run:
            run.backward(model, squared, x[:7], y[:7], chunk_size=chunk_size)
        for p, total in zip(model.parameters(), expected, strict=True):
            assert torch.allclose(p.grad, total, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e6, 1e30])
def test_no_example_moves_the_sum_by_more_than_the_clip_norm(scale):
    model, optimizer, (x, y), sampler = ready()
    y = y * scale
    with private_steps(optimizer, sampler=sampler, noise=Silent(), **PARTS) as run:
        sums = []
        for rows in (slice(0, 9), slice(0, 8)):
            run.backward(model, squared, x[rows], y[rows])
            sums.append(torch.cat([p.grad.double().flatten() for p in run._trained]))
    assert (sums[0] - sums[1]).norm() * 10.0 <= 0.5 * (1 + 1e-6)


def test_an_example_that_is_not_finite_counts_as_nothing():
    model, optimizer, (x, y), sampler = ready()
    x = x.clone()
    x[3] = float("nan")
    x[4] = float("inf")
    with private_steps(optimizer, sampler=sampler, noise=Silent(), **PARTS) as run:
        run.backward(model, squared, x[:6], y[:6])
        found = [p.grad.clone() for p in model.parameters()]
        rest = [0, 1, 2, 5]
        run.backward(model, squared, x[rest], y[rest])
    for one, p in zip(found, model.parameters(), strict=True):
        assert torch.allclose(one, p.grad, atol=1e-7)


def test_an_empty_batch_is_noise_of_the_stated_size():
    model, optimizer, (x, y), sampler = ready()
    drawn = []
    with private_steps(optimizer, sampler=sampler, **PARTS) as run:
        for _ in range(60):
            run.backward(model, squared, x[:0], y[:0])
            drawn += [p.grad.flatten() for p in model.parameters()]
    noise = torch.cat(drawn).numpy() * 10.0 / 0.5
    assert stats.kstest(noise, "norm").pvalue > 1e-6


def test_a_run_stops_in_time_and_says_what_it_spent():
    model, optimizer, (x, y), sampler = ready(steps=400)
    ledger = Receipts()
    budget = within(2.0, 1e-3)
    with private_steps(
        optimizer, sampler=sampler, budget=budget, ledger=ledger, run="r", **PARTS
    ) as run:
        for batch in sampler:
            if not run.room:
                break
            run.backward(model, squared, x[batch], y[batch])
            optimizer.step()
        assert run.epsilon(1e-3) <= 2.0
        step = PoissonSampled(sampler.rate, Gaussian(1.0))
        assert ledger.total == {step: run.steps}
        assert atoms(run.spent) == {step: run.steps}
        before = [p.detach().clone() for p in model.parameters()]
        run.backward(model, squared, x, y)
        with pytest.raises(BudgetExceededError, match="the step was not made"):
            optimizer.step()
        assert all(map(torch.equal, before, model.parameters()))
    optimizer.step()  # outside, the optimizer is its own again


def test_only_noisy_gradients_are_stepped_on_and_only_once():
    model, optimizer, (x, y), sampler = ready()
    with private_steps(optimizer, sampler=sampler, **PARTS) as run:
        squared(model, x[0], y[0]).backward()
        with pytest.raises(InvalidArgumentError, match=r"must follow run\.backward"):
            optimizer.step()
        run.backward(model, squared, x[:3], y[:3])
        optimizer.step()
        with pytest.raises(InvalidArgumentError, match="once for each"):
            optimizer.step()
        run.backward(model, squared, x[:3], y[:3])
        optimizer.zero_grad()
        squared(model, x[0], y[0]).backward()
        with pytest.raises(InvalidArgumentError, match="not the noisy ones"):
            optimizer.step()
        assert run.steps == 1


def test_a_charge_precedes_the_update_of_any_loop():
    model, optimizer, (x, y), _ = ready()
    weight = next(model.parameters())
    start = weight.detach().clone()
    ledger = Receipts(most=1, watch=lambda: weight.detach().clone())
    event = PoissonSampled(0.1, Gaussian(2.0))
    with paid_steps(optimizer, event, ledger=ledger, run="own loop") as run:
        for _ in range(2):
            optimizer.zero_grad()
            squared(model, x, y).backward()
            if run.steps:
                with pytest.raises(BudgetExceededError):
                    optimizer.step()
            else:
                optimizer.step()
    assert torch.equal(ledger.seen[0], start)
    assert atoms(run.spent) == {event: 1}


def _train_and_tell(path, out):
    """A run that tells the world of each step, as soon as it was made."""
    model, optimizer, (x, y), sampler = ready(steps=10**6)
    with (
        Ledger.open(path) as ledger,
        private_steps(optimizer, sampler=sampler, ledger=ledger, **PARTS) as run,
    ):
        for batch in sampler:
            run.backward(model, squared, x[batch[:1]], y[batch[:1]])
            optimizer.step()
            os.write(out, b".")


# Python from 3.12 on, about forking with torch's threads, which are idle here
@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
def test_whenever_it_is_killed_what_was_made_was_paid(tmp_path):
    path = tmp_path / "ledger.db"
    Ledger.create(path).close()
    step, made, pauses = PoissonSampled(0.1, Gaussian(1.0)), 0, random.Random(0)
    for _ in range(12):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                _train_and_tell(path, write)
            finally:
                os._exit(1)
        os.close(write)
        told = os.read(read, 1)
        time.sleep(pauses.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        while more := os.read(read, 4096):
            told += more
        os.close(read)
        made += len(told)
        with Ledger.open(path) as ledger:
            ledger.verify()
            spent = atoms(ledger.spent)[step]
        assert made <= spent
    assert 12 <= made <= spent <= made + 12  # one each at most was paid and not made


def test_bad_arguments():
    _, optimizer, _, sampler = ready()
    with (
        pytest.raises(InvalidArgumentError, match="PoissonBatchSampler"),
        private_steps(optimizer, sampler=[[0]], **PARTS),
    ):
        pass
    half = torch.optim.SGD([torch.nn.Parameter(torch.ones(3, dtype=torch.float16))])
    with (
        pytest.raises(InvalidArgumentError, match="float32"),
        private_steps(half, sampler=sampler, **PARTS),
    ):
        pass
    other = torch.nn.Linear(2, 2)
    with (
        private_steps(optimizer, sampler=sampler, **PARTS) as run,
        pytest.raises(InvalidArgumentError, match="model must hold all"),
    ):
        run.backward(other, squared, torch.ones(1, 2), torch.ones(1, 2))
