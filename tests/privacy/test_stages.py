"""Two stages: what the first one releases, and what it leaves for the second."""

import math

import pytest

from drdp.errors import CalibrationError, EstimateRefusedError, InvalidArgumentError
from drdp.privacy.calibration import within
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    Gaussian,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.gdp import gdp_curve
from drdp.privacy.pld import pld_curve
from drdp.privacy.stages import (
    NoisyPriorWarning,
    Prior,
    calibrate_stages,
    noise_for_level,
    noise_for_share,
    prior_noise,
    stage_one,
)

ONE = Adjacency.ZERO_OUT


def run(z):
    return PoissonSampled(0.05, Gaussian(z)) * 20


@pytest.mark.parametrize(
    ("prior", "event"),
    [
        (Prior.PUBLIC, NOTHING),
        (Prior.PROXY, NOTHING),
        (Prior.AS_PRINTED, NonPrivate()),
    ],
)
def test_what_the_first_stage_releases(prior, event):
    assert stage_one(prior) == event
    assert stage_one(str(prior)) == event


def test_releases_share_the_noise():
    """E releases of multiplier z cost what one of z / sqrt(E) does."""
    once = stage_one(Prior.RELEASED, noise_multiplier=6.0, releases=9)
    assert once == Gaussian(2.0)
    nine = Gaussian(6.0) * 9
    assert pld_curve(once).epsilon(1e-5) == pytest.approx(pld_curve(nine).epsilon(1e-5))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"prior": "secret"}, "prior"),
        ({"prior": Prior.RELEASED}, "noise_multiplier"),
        ({"prior": Prior.RELEASED, "noise_multiplier": 0.0}, "noise_multiplier"),
        ({"prior": Prior.PUBLIC, "noise_multiplier": 1.0}, "noise_multiplier"),
        ({"releases": 0}, "releases"),
    ],
)
def test_a_first_stage_outside_its_domain(arguments, names):
    with pytest.raises(InvalidArgumentError, match=names):
        stage_one(**arguments)


@pytest.mark.parametrize(
    ("dimension", "clients", "level"),
    [(16, 100, 0.20), (2, 100, 0.071)],
)
def test_the_noise_on_a_coordinate(dimension, clients, level):
    """Multiplier 5, zero-out; under replace-one it is twice that."""
    found = prior_noise(5.0, dimension=dimension, clients=clients, adjacency=ONE)
    assert found == pytest.approx(level, abs=5e-4)
    doubled = prior_noise(5.0, dimension=dimension, clients=clients)
    assert doubled == pytest.approx(2 * found)


@pytest.mark.parametrize(
    ("dimension", "clients", "level"), [(512, 100, 1.13), (16, 3, 6.67)]
)
def test_statistics_that_drown_in_noise_warn(dimension, clients, level):
    with pytest.warns(NoisyPriorWarning, match="public prior"):
        found = prior_noise(5.0, dimension=dimension, clients=clients, adjacency=ONE)
    assert found == pytest.approx(level, abs=5e-3)


def test_the_level_is_that_of_a_simulated_release():
    """Draw the noise on the sum, average, and look at one coordinate."""
    import numpy as np

    rng = np.random.default_rng(11)
    noise = noise_for_level(0.3, dimension=16, clients=40, adjacency=ONE)
    drawn = rng.normal(0.0, noise * math.sqrt(16), 200_000) / 40
    assert drawn.std() == pytest.approx(0.3, rel=0.01)


def test_a_first_stage_beyond_the_budget_is_named():
    first = stage_one(Prior.RELEASED, noise_multiplier=1.0)
    with pytest.raises(CalibrationError, match="stage one alone"):
        calibrate_stages(first, run, within(1.0, 1e-5))
    with pytest.raises(CalibrationError, match="stage one alone"):
        calibrate_stages(stage_one(Prior.AS_PRINTED), run, within(1.0, 1e-5))


def test_a_public_prior_leaves_everything():
    stages = calibrate_stages(stage_one(), run, within(2.0, 1e-5), rtol=1e-4)
    assert stages.noise_multiplier == stages.alone
    assert stages.total == NOTHING + run(stages.alone)


def test_an_estimate_is_no_guarantee():
    with pytest.raises(EstimateRefusedError):
        calibrate_stages(stage_one(), run, within(2.0, 1e-5), accountant=gdp_curve)


def test_the_split_that_drdp_chooses():
    """The noisiest useful statistics leave the least noise for training."""
    target = within(2.0, 1e-5)
    noise = noise_for_level(dimension=16, clients=100)
    assert noise == 6.25

    def left(z):
        first = stage_one(Prior.RELEASED, noise_multiplier=z)
        return calibrate_stages(first, run, target, rtol=1e-4).noise_multiplier

    assert left(noise) < left(0.8 * noise)
    assert left(noise) == pytest.approx(1.0133, abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_a_share_outside_its_domain(share):
    with pytest.raises(InvalidArgumentError, match="share"):
        noise_for_share(share, 2.0, 1e-5)
