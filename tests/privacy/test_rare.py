"""Rare large losses: sums by parts against closed forms, quadrature and the contour."""

import math
from importlib import import_module
from itertools import product

import numpy as np
import pytest

from drdp.privacy.events import Gaussian, PoissonSampled
from drdp.privacy.grid import grid_interval
from drdp.privacy.kernel import compiled
from drdp.privacy.losses import Direction, log_profile
from drdp.privacy.pld import delta_interval, epsilon_interval

CAP = 4e8

# rate, noise, steps, delta: where the contour sum alone does not converge
HARD = {
    "one in a thousand jumps": (5.505e-6, 0.3627, 34, 1.07e-5),
    "thirty participations": (1.411e-5, 0.9162, 2_432_622, 4.38e-22),
    "bulk and jumps": (4.489e-5, 1.0206, 7_561_690, 2.95e-26),
    "hardly any loss": (7.131e-6, 33.1, 2, 5.59e-28),
    "tiny delta": (3.894e-6, 2.2514, 145, 4.18e-30),
    "small noise": (1.445e-4, 0.206, 45, 1.9e-24),
    "two rounds": (8.97e-5, 0.2542, 2, 4.63e-6),
}


def terms(*atoms):
    rows = [(0.0, rate, noise, float(steps), math.inf) for rate, noise, steps in atoms]
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def log_delta_of(epsilon, *atoms, aim=1e-9):
    _, log_delta, error, _, _, status = compiled().rare_answer(
        terms(*atoms), False, epsilon, aim, CAP
    )
    assert status == 0
    return log_delta, error


def test_one_round_has_a_closed_form():
    """It may pass, a single round being no sum, but is never wrong."""
    answered = 0
    for rate, noise, epsilon in product(
        (1e-6, 1e-4, 1e-2), (0.25, 0.7, 1.5, 5.0), (0.003, 0.1, 1.0, 6.0)
    ):
        run = PoissonSampled(rate, Gaussian(noise))
        truth = log_profile(run, Direction.REMOVE)(epsilon)
        _, log_delta, error, _, _, status = compiled().rare_answer(
            terms((rate, noise, 1)), False, epsilon, 1e-7, CAP
        )
        if status == 0:
            answered += 1
            assert abs(math.expm1(log_delta - truth)) <= error + 1e-11
            assert error < 1e-3
    assert answered >= 20


@pytest.mark.parametrize(
    ("rate", "noise", "epsilon"),
    [(1e-3, 0.5, 0.5), (1e-3, 0.5, 8.0), (1e-5, 0.8, 0.02), (0.05, 1.0, 0.7)],
)
def test_two_rounds_by_quadrature(rate, noise, epsilon):
    """delta of two rounds is an average of delta of one, over the other's loss."""
    exact = log_profile(PoissonSampled(rate, Gaussian(noise)), Direction.REMOVE)

    def one(e):
        # below log(1 - q) the loss is always larger
        return 1.0 - math.exp(e) if e <= math.log1p(-rate) else math.exp(exact(e))

    x = np.linspace(-12.0 * noise, 1.0 + 12.0 * noise, 40_001)
    loss = np.log1p(rate * np.expm1((x - 0.5) / noise**2))
    height = -0.5 * (x / noise) ** 2 + loss
    density = np.exp(height) / (noise * math.sqrt(2.0 * math.pi))
    inner = np.array([one(epsilon - float(value)) for value in loss])
    truth = float(np.trapezoid(density * inner, x))
    log_delta, error = log_delta_of(epsilon, (rate, noise, 2))
    assert math.exp(log_delta) == pytest.approx(truth, rel=error + 1e-7)


def test_the_contour_agrees_where_it_converges():
    kernels = compiled()
    rng = np.random.default_rng(7)
    low, high = np.log([1e-4, 0.5, 10.0, 1e-12]), np.log([0.2, 5.0, 1e5, 1e-2])
    compared = 0
    for _ in range(60):
        rate, noise, steps, delta = np.exp(rng.uniform(low, high))
        law = terms((rate, noise, round(float(steps))))
        asked = math.log(delta)
        epsilon, _, error, slope, _, status = kernels.rare_answer(
            law, True, asked, 3e-7, CAP
        )
        below, above, _, _, other = kernels.worst(law, True, asked, 1e-9, 1e7, asked)
        if status != 0 or other != 0:
            continue
        bottom, top = kernels.ends(True, epsilon, asked, error, slope)
        compared += 1
        # the contour's is that of the worse direction, which is "remove"
        assert bottom <= above
        assert below <= top
    assert compared > 40


def test_the_contour_is_as_good_where_the_loss_is_cut_off():
    """The shift dwindles towards the cut, and the argument may grow meanwhile.

    The truth is a 30-digit quadrature over the loss of one of both rounds.
    """
    run = PoissonSampled(0.00042560245064853603, Gaussian(6.688443078083202)) * 2
    low, high, _ = delta_interval(run, 0.0007519437963)
    assert low <= 2.48394578287465e-14 * (1 + 1e-12)
    assert high >= 2.48394578287465e-14 * (1 - 1e-12)
    low, high, _ = epsilon_interval(run, 2.48394578287465e-14)
    assert low <= 0.0007519437963 <= high
    run = PoissonSampled(0.001996680575768399, Gaussian(3.1015804160915077)) * 2
    low, high, _ = delta_interval(run, 0.0010161742877486393)
    assert low <= 8.89109811692279e-5 <= high


@pytest.mark.parametrize("name", HARD)
def test_hard_answers_are_narrow_and_consistent(name):
    rate, noise, steps, delta = HARD[name]
    run = PoissonSampled(rate, Gaussian(noise)) * steps
    low, high, method = epsilon_interval(run, delta)
    assert "parts" in method
    assert 0.0 <= high - low <= 1e-6 * max(1.0, high)
    # delta(epsilon) falls: the two questions bracket each other
    assert delta_interval(run, high).lower <= delta * (1 + 1e-9)
    if low > 0.0:
        assert delta_interval(run, low).upper >= delta * (1 - 1e-9)


@pytest.mark.parametrize("name", ["small noise", "two rounds", "tiny delta"])
def test_the_grid_does_not_contradict(name):
    rate, noise, steps, delta = HARD[name]
    parts = ((PoissonSampled(rate, Gaussian(noise)), steps),)
    low, high, _ = epsilon_interval(parts[0][0] * steps, delta)
    grid = grid_interval(parts, "epsilon", delta, 1e-4)
    assert grid.lower <= high
    assert low <= grid.upper


def test_equal_atoms_listed_apart_cost_the_same():
    rate, noise, steps, _ = HARD["thirty participations"]
    together, _ = log_delta_of(0.72, (rate, noise, steps))
    apart, error = log_delta_of(
        0.72, (rate, noise, 1_000_000), (rate, noise, steps - 1_000_000)
    )
    assert apart == pytest.approx(together, abs=error + 1e-9)


def test_more_of_anything_costs_more():
    rate, noise, steps, _ = HARD["thirty participations"]
    base, _ = log_delta_of(0.72, (rate, noise, steps))
    assert log_delta_of(0.72, (rate, noise, 2 * steps))[0] > base
    assert log_delta_of(0.72, (1.1 * rate, noise, steps))[0] > base
    assert log_delta_of(0.72, (rate, 0.95 * noise, steps))[0] > base
    assert log_delta_of(0.80, (rate, noise, steps))[0] < base


def test_both_gears_give_the_same_number():
    rate, noise, steps, delta = HARD["hardly any loss"]
    plain = import_module("drdp.privacy.rare").rare_answer(
        ([0.0], [rate], [noise], [float(steps)], [math.inf]),
        True,
        math.log(delta),
        3e-7,
        2e6,
    )
    fast = compiled().rare_answer(
        terms((rate, noise, steps)), True, math.log(delta), 3e-7, 2e6
    )
    assert plain[:3] == pytest.approx(fast[:3], rel=1e-9)
    assert plain[5] == fast[5] == 0
