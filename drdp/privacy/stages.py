"""Two stages about the same clients: a prior for the autoencoder, then training.

Both stages ask the same clients, so their events add: ``stage_one(...) + run``.
The first one is free where the prior comes from no private data, and costs
everything where statistics are sent as they are.

>>> from drdp.privacy.events import PoissonSampled
>>> run = PoissonSampled(0.05, Gaussian(0.748028)) * 20
>>> total = stage_one(Prior.RELEASED, noise_multiplier=5.0) + run
>>> round(pld_curve(total).epsilon(1 / 149), 4)
1.411
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import final

from drdp import _check
from drdp.errors import CalibrationError, InvalidArgumentError
from drdp.privacy._special import solve_gaussian_mu
from drdp.privacy.calibration import Target, calibrate
from drdp.privacy.curves import Accountant
from drdp.privacy.events import NOTHING, Adjacency, Event, Gaussian, NonPrivate
from drdp.privacy.pld import pld_curve

__all__ = [
    "USEFUL_NOISE",
    "NoisyPriorWarning",
    "Prior",
    "TwoStages",
    "calibrate_stages",
    "noise_for_level",
    "noise_for_share",
    "prior_noise",
    "stage_one",
]

USEFUL_NOISE = 0.5
"""Noise on a coordinate in [-1, 1] above which its mean says next to nothing."""


class NoisyPriorWarning(UserWarning):
    """The statistics of stage one drown in the noise that protects them."""


class Prior(StrEnum):
    """Where the prior of the autoencoder comes from.

    - ``PUBLIC``: from no data, for instance standard deviations drawn from the
      range to which the paper clamps its own anyway.
    - ``PROXY``: from public data, or clients who are not among the protected.
    - ``RELEASED``: the protected clients' statistics, clipped, summed over all
      of them and released with Gaussian noise.
    - ``AS_PRINTED``: their statistics sent as they are (Algorithm 1 of the
      paper); no noise anywhere.
    """

    PUBLIC = "public"
    PROXY = "proxy"
    RELEASED = "released"
    AS_PRINTED = "as-printed"


def stage_one(
    prior: Prior = Prior.PUBLIC,
    *,
    noise_multiplier: float | None = None,
    releases: int = 1,
) -> Event:
    """What the first stage releases about the clients.

    Args:
        prior: Where the prior comes from.
        noise_multiplier: Of one release, for ``RELEASED`` only: noise standard
            deviation / how far one client moves the sum of statistics.
        releases: How often that is released.  One is enough: only the last
            running average is needed.

    Returns:
        `NOTHING` for a public or proxy prior, a Gaussian for released
        statistics (of multiplier ``z / sqrt(releases)``), and `NonPrivate` for
        the algorithm as printed.

    >>> stage_one() == NOTHING, stage_one(Prior.AS_PRINTED)
    (True, NonPrivate())
    >>> stage_one(Prior.RELEASED, noise_multiplier=10.0, releases=4)
    Gaussian(noise_multiplier=5.0)
    """
    try:
        prior = Prior(prior)
    except ValueError:
        known = ", ".join(Prior)
        raise InvalidArgumentError(
            f"prior must be one of {known}, got {prior!r}"
        ) from None
    releases = _check.count(least=1, releases=releases)
    if prior is Prior.RELEASED:
        noise = _check.positive(noise_multiplier=noise_multiplier)
        return Gaussian(noise / math.sqrt(releases))
    if noise_multiplier is not None:
        raise InvalidArgumentError(
            f"noise_multiplier belongs to prior released, got {noise_multiplier!r}"
            f" with prior {prior}"
        )
    return NonPrivate() if prior is Prior.AS_PRINTED else NOTHING


def prior_noise(
    noise_multiplier: float,
    *,
    dimension: int,
    clients: int,
    adjacency: Adjacency = Adjacency.REPLACE_ONE,
) -> float:
    """The noise on each coordinate of the mean of released statistics.

    Each client sends `dimension` numbers, scaled to [-1, 1], so of norm at most
    ``sqrt(dimension)``; all clients take part, once.

    Args:
        noise_multiplier: Of the release.
        dimension: How many numbers a client sends.
        clients: How many clients there are.
        adjacency: Which data sets are neighbours.

    Returns:
        ``z kappa sqrt(dimension) / clients``, kappa 2 under replace-one, else 1.
        A `NoisyPriorWarning` says where that is above `USEFUL_NOISE`.

    >>> prior_noise(5.0, dimension=16, clients=100)
    0.4
    """
    noise = _check.positive(noise_multiplier=noise_multiplier)
    level = noise * _reach(dimension, clients, adjacency)
    if level > USEFUL_NOISE:
        warnings.warn(
            f"the released statistics carry noise of {level:.3g} on coordinates in"
            f" [-1, 1], above {USEFUL_NOISE}: they say next to nothing; pool them"
            " into fewer numbers, or take a public prior, which costs nothing",
            NoisyPriorWarning,
            stacklevel=2,
        )
    return level


def noise_for_level(
    level: float = USEFUL_NOISE,
    *,
    dimension: int,
    clients: int,
    adjacency: Adjacency = Adjacency.REPLACE_ONE,
) -> float:
    """The largest noise multiplier that keeps released statistics useful.

    This is how drdp splits a budget between the stages unless told otherwise:
    the training noise is least where stage one has the most noise that its
    statistics bear, at most `level` on each coordinate of their mean.

    >>> noise_for_level(dimension=16, clients=100)
    6.25
    """
    level = _check.positive(level=level)
    return level / _reach(dimension, clients, adjacency)


def noise_for_share(share: float, epsilon: float, delta: float) -> float:
    """The noise multiplier of stage one that uses a share of a budget.

    The budget is counted in mu^2 of Gaussian DP, which adds exactly where all
    releases are unsampled Gaussians: the answer satisfies ``1 / z^2 = share *
    mu^2``, where mu-GDP is what (epsilon, delta) allows.  How much is left for a
    sampled second stage is for `calibrate_stages` to find out.

    >>> round(noise_for_share(0.25, 2.0, 1e-5), 4)
    3.9876
    """
    share = _check.probability(share=share)
    epsilon = _check.positive(epsilon=epsilon)
    mu = solve_gaussian_mu(epsilon, _check.probability(delta=delta))
    return 1.0 / (math.sqrt(share) * mu)


@final
@dataclass(frozen=True, slots=True)
class TwoStages:
    """A calibrated pair of stages.

    Args:
        noise_multiplier: Of the second stage, with the first one paid for.
        alone: What it would be without a first stage.
        first: What the first stage releases.
        second: What the second stage releases.
    """

    noise_multiplier: float
    alone: float
    first: Event
    second: Event

    @property
    def total(self) -> Event:
        """Everything that is released."""
        return self.first + self.second


def calibrate_stages(
    first: Event,
    second_of: Callable[[float], Event],
    target: Target,
    *,
    accountant: Accountant = pld_curve,
    rtol: float = 1e-6,
) -> TwoStages:
    """The noise of the second stage with which both keep to one budget.

    Args:
        first: What stage one releases; see `stage_one`.  Its noise is given, by
            the user, by `noise_for_share` or by `noise_for_level`.
        second_of: The event of stage two for a noise multiplier.
        target: For instance ``within(2.0, 1e-5)``.
        accountant: ``Event -> PrivacyCurve``; upper curves only.
        rtol: How close to the boundary the answer must be, relatively.

    Returns:
        The stages; their total was tested to meet the target.

    Raises:
        CalibrationError: If stage one alone uses up the budget.

    >>> from drdp.privacy.calibration import within
    >>> from drdp.privacy.events import PoissonSampled
    >>> stages = calibrate_stages(
    ...     stage_one(Prior.RELEASED, noise_multiplier=10.0),
    ...     lambda z: PoissonSampled(0.05, Gaussian(z)) * 20,
    ...     within(2.0, 1e-5),
    ... )
    >>> round(stages.alone, 4), round(stages.noise_multiplier, 4)
    (0.9968, 1.003)
    """
    alone = calibrate(second_of, accountant, target, rtol=rtol)
    if first == NOTHING:
        return TwoStages(alone, alone, first, second_of(alone))
    if not target(accountant(first)):
        raise CalibrationError(
            "stage one alone spends more than the whole budget: give its statistics"
            " more noise, or take a public prior, which costs nothing"
        )
    noise = calibrate(
        lambda z: first + second_of(z), accountant, target, guess=alone, rtol=rtol
    )
    return TwoStages(noise, alone, first, second_of(noise))


def _reach(dimension: int, clients: int, adjacency: Adjacency) -> float:
    """How far one client moves the mean of the statistics."""
    dimension = _check.count(least=1, dimension=dimension)
    clients = _check.count(least=1, clients=clients)
    kappa = 2.0 if Adjacency(adjacency) is Adjacency.REPLACE_ONE else 1.0
    return kappa * math.sqrt(dimension) / clients
