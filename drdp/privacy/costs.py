"""What one release adds to each of the sums that privacy filters keep.

>>> rho(Gaussian(10.0)), mu_squared(Gaussian(10.0))
(0.005000000000000001, 0.010000000000000002)
"""

from __future__ import annotations

import math

from drdp.errors import UnsupportedEventError
from drdp.privacy.events import (
    Adjacency,
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    atoms,
)
from drdp.privacy.releases import (
    DiscreteGaussian,
    RandomisedResponse,
    ZeroConcentrated,
)
from drdp.privacy.standins import above

__all__ = ["epsilon_delta", "mu_squared", "renyi", "rho", "rho_within"]


def rho(atom: Event) -> float:
    """The rho of a zero-concentrated release; a pure one has epsilon^2 / 2.

    References: Bun and Steinke, arXiv:1605.02065, Propositions 1.4 and 1.6;
    Canonne, Kamath and Steinke, arXiv:2004.00010, Theorem 4.

    Raises:
        UnsupportedEventError: For a release that is not known to be.
    """
    total = 0.0
    for part, times in above(((atom, 1),)):
        match part:
            case Gaussian(noise_multiplier=z) | DiscreteGaussian(noise_multiplier=z):
                total += times * 0.5 * (1.0 / z) * (1.0 / z)
            case ZeroConcentrated(rho=value):
                total += times * value
            case ApproxDP(epsilon=epsilon, delta=0.0):
                total += times * 0.5 * epsilon * epsilon
            case RandomisedResponse(epsilon=epsilon):
                total += times * 0.5 * epsilon * epsilon
            case Laplace(noise_multiplier=scale):
                total += times * 0.5 * (1.0 / scale) * (1.0 / scale)
            case NonPrivate():
                total = math.inf
            case _:
                raise UnsupportedEventError(
                    f"the zero-concentrated filter cannot count {atom!r}; a"
                    " RenyiFilter can count sampled releases, an ApproxDPFilter"
                    " (epsilon, delta) ones"
                )
    return total


def mu_squared(atom: Event) -> float:
    """mu^2 of an unsampled Gaussian release.

    Raises:
        UnsupportedEventError: For any other release.
    """
    total = 0.0
    for part, times in above(((atom, 1),)):
        match part:
            case Gaussian(noise_multiplier=z):
                total += times * (1.0 / z) * (1.0 / z)
            case NonPrivate():
                total = math.inf
            case _:
                raise UnsupportedEventError(
                    f"the Gaussian filter cannot count {atom!r}: it holds for"
                    " unsampled Gaussian releases only; use a RenyiFilter"
                )
    return total


def renyi(atom: Event, order: float) -> float:
    """The Renyi divergence at one order, the larger of both directions."""
    from drdp.privacy.rdp import rdp

    if isinstance(atom, NonPrivate):
        return math.inf
    return rdp(atom, order)


def epsilon_delta(atom: Event) -> tuple[float, float]:
    """The (epsilon, delta) of a release that is stated by them.

    Sampling at rate q takes epsilon to log(1 + q (e^epsilon - 1)) and delta to
    q delta (Balle, Barthe and Gaboardi, arXiv:1807.01647, Theorems 8 and 9).

    >>> epsilon_delta(Laplace(2.0))
    (0.5, 0.0)

    Raises:
        UnsupportedEventError: For a release that has a whole curve of them.
    """
    match atom:
        case NonPrivate():
            return math.inf, 1.0
        case ApproxDP(epsilon=epsilon, delta=delta):
            return epsilon, delta
        case RandomisedResponse(epsilon=epsilon):
            return epsilon, 0.0
        case Laplace(noise_multiplier=scale):
            return 1.0 / scale, 0.0
        case (
            PoissonSampled(adjacency=relation) | FixedSizeSampled(adjacency=relation)
        ) if isinstance(atom, FixedSizeSampled) or (
            relation is not Adjacency.REPLACE_ONE
        ):
            pairs = [
                (times, *epsilon_delta(part))
                for part, times in atoms(atom.event).items()
            ]
            epsilon = math.fsum(times * e for times, e, _ in pairs)
            delta = math.fsum(times * d for times, _, d in pairs)
            grown = math.expm1(epsilon) if epsilon < 700.0 else math.inf
            return math.log1p(atom.rate * grown), min(1.0, atom.rate * delta)
    raise UnsupportedEventError(
        f"the (epsilon, delta) filter cannot count {atom!r}, which has no single"
        " epsilon; use a ZeroConcentratedFilter or a RenyiFilter"
    )


def rho_within(epsilon: float, delta: float) -> float:
    """The largest rho with rho + 2 sqrt(rho log(1/delta)) <= epsilon.

    Bun and Steinke, arXiv:1605.02065, Proposition 1.3.

    >>> round(rho_within(1.0, 1e-5), 10), round(rho_within(8.0, 1e-5), 10)
    (0.0208199383, 1.0491362012)
    """
    root = math.sqrt(-math.log(delta))
    return (epsilon / (math.sqrt(root * root + epsilon) + root)) ** 2
