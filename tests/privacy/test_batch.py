"""Many answers at once are the accountant's, element by element."""

import numpy as np
import pytest

from drdp.errors import InvalidArgumentError
from drdp.privacy.batch import deltas, epsilons, noise_multipliers
from drdp.privacy.events import Gaussian, PoissonSampled
from drdp.privacy.inversion import noise_multiplier_for
from drdp.privacy.pld import delta_interval, epsilon_interval

NOISE = np.array([0.65, 1.0, 3.0])
RATE = np.array([[0.01], [0.2]])
# The kernels answer this one with an interval of 1e-4, the accountant better.
WIDE = {"rate": 0.002509032424851492, "steps": 378, "delta": 1.3788673518900251e-12}
WIDE_NOISE = 1.3135585144552102


def run(noise, rate, steps):
    return PoissonSampled(rate, Gaussian(noise)) * int(steps)


def test_epsilons_broadcast_and_are_certified():
    found = epsilons(NOISE, rate=RATE, steps=100, delta=1e-5)
    assert found.shape == (2, 3)
    for (i, j), value in np.ndenumerate(found):
        low, high, _ = epsilon_interval(run(NOISE[j], RATE[i, 0], 100), 1e-5)
        assert low <= value <= high * (1 + 1e-6)


def test_deltas_broadcast_and_are_certified():
    found = deltas(NOISE, rate=RATE, steps=100, epsilon=2.0)
    for (i, j), value in np.ndenumerate(found):
        low, high, _ = delta_interval(run(NOISE[j], RATE[i, 0], 100), 2.0)
        assert low <= value <= high * (1 + 1e-5)


def test_noise_multipliers_are_those_of_single_searches():
    found = noise_multipliers([1.0, 2.0], delta=1e-5, rate=0.05, steps=[[20], [40]])
    for (i, j), value in np.ndenumerate(found):
        single = noise_multiplier_for([1.0, 2.0][j], 1e-5, 0.05, [20, 40][i])
        assert value == pytest.approx(single, rel=2e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_what_has_a_closed_form_is_answered_by_it(steps):
    (found,) = epsilons([2.0], rate=1.0, steps=steps, delta=1e-5)
    assert found == epsilon_interval(Gaussian(2.0) * steps, 1e-5).upper


def test_a_wide_answer_of_the_kernels_is_asked_again():
    (found,) = epsilons([WIDE_NOISE], **WIDE)
    event = run(WIDE_NOISE, WIDE["rate"], WIDE["steps"])
    low, high, _ = epsilon_interval(event, WIDE["delta"])
    assert low <= found <= high
    assert high - low < 1e-5


@pytest.mark.parametrize(
    ("name", "value"),
    [("rate", 1.5), ("steps", 2.5), ("delta", 0.0), ("noise_multiplier", -1.0)],
)
def test_a_bad_element_is_named(name, value):
    options = {"noise_multiplier": 1.0, "rate": 0.1, "steps": 5, "delta": 1e-5}
    options[name] = [options[name], value]
    with pytest.raises(InvalidArgumentError, match=name):
        epsilons(options.pop("noise_multiplier"), **options)
