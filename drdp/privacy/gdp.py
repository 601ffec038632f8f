"""Gaussian differential privacy: exact for unsampled Gaussians, else a CLT.

Composing unsampled Gaussians is exact under GDP: the squares of mu add.  For
sampled Gaussians the central limit theorem of Bu, Dong, Long and Su
(arXiv:1911.11607) gives a mu that is *approximately* right for many small
steps; it usually reports less than the truth, so such a curve is labelled an
estimate.
"""

from __future__ import annotations

import math

from drdp import _check
from drdp.errors import CalibrationError, UnsupportedEventError
from drdp.privacy._special import (
    gaussian_delta,
    normal_cdf,
    solve_gaussian_epsilon,
    solve_gaussian_mu,
)
from drdp.privacy.curves import Bound, PrivacyCurve
from drdp.privacy.events import (
    Adjacency,
    ApproxDP,
    Event,
    FixedSizeSampled,
    Gaussian,
    NonPrivate,
    PoissonSampled,
    atoms,
)
from drdp.privacy.releases import advice
from drdp.privacy.sampling import Shuffled
from drdp.privacy.standins import above

__all__ = [
    "clt_mu",
    "clt_mu_fixed_size",
    "clt_noise_multiplier",
    "gdp_curve",
]

_LARGEST_EXPONENT = 700.0
_ROUNDING = 1e-11  # relative, of delta in closed form


def gdp_curve(event: Event) -> PrivacyCurve:
    """The privacy curve by Gaussian differential privacy.

    Args:
        event: Any composition of Gaussians, unsampled or sampled.

    Returns:
        The curve of mu-GDP.

    Guarantees:
        ``bound == "upper"``, and exact, where every release is an unsampled
        Gaussian (Dong, Roth and Su, arXiv:1905.02383, Corollary 2.13 and
        Theorem 3.2).  Otherwise ``bound == "estimate"``: the CLT is no bound.

    Raises:
        UnsupportedEventError: For a release that is not Gaussian.

    >>> curve = gdp_curve(Gaussian(1.0))
    >>> curve.bound, round(curve.epsilon(1e-5), 6)
    ('upper', 4.377178)
    >>> gdp_curve(PoissonSampled(0.05, Gaussian(0.748)) * 20).bound
    'estimate'
    """
    square, bound = 0.0, "upper"
    for atom, times in atoms(event).items():
        match atom:
            case Gaussian(noise_multiplier=z):
                square += times * (1.0 / z) * (1.0 / z)
            case PoissonSampled(
                rate=rate, event=Gaussian(noise_multiplier=z), adjacency=relation
            ) if relation is not Adjacency.REPLACE_ONE:
                square, bound = square + clt_mu(rate, times, z) ** 2, "estimate"
            case FixedSizeSampled(event=Gaussian(noise_multiplier=z)):
                mu = clt_mu_fixed_size(atom.rate, times, z)
                square, bound = square + mu**2, "estimate"
            case Shuffled(event=Gaussian()):
                for plain, _ in above(((atom, 1),)):  # a single Gaussian
                    z = getattr(plain, "noise_multiplier", 0.0)
                    square += times * (1.0 / z) * (1.0 / z)
            case NonPrivate():
                square = math.inf
            case ApproxDP() | _:
                raise UnsupportedEventError(
                    f"gdp_curve has no formula for {atom!r}; {advice(atom)}"
                )
    return _curve(math.sqrt(square), "estimate" if bound == "estimate" else "upper")


def _curve(mu: float, bound: Bound) -> PrivacyCurve:
    if mu == math.inf:
        return PrivacyCurve(lambda _: 1.0, bound, lambda _: math.inf)
    if mu == 0.0:
        return PrivacyCurve(lambda _: 0.0, bound, lambda _: 0.0)
    # a bound allows for what its formula loses to rounding
    slack = _ROUNDING if bound == "upper" else 0.0
    return PrivacyCurve(
        lambda epsilon: gaussian_delta(epsilon, mu) * (1.0 + slack),
        bound,
        lambda delta: solve_gaussian_epsilon(delta * (1.0 - slack), mu),
    )


def clt_mu(rate: float, steps: int, noise_multiplier: float) -> float:
    """mu of the CLT for Poisson sampling: q sqrt(T) sqrt(e^(1/z^2) - 1).

    An approximation (Bu et al., arXiv:1911.11607, Theorem 5); infinite where
    it overflows.

    >>> round(clt_mu(256 / 60000, 3516, 1.3), 4)
    0.2273
    """
    rate = _check.rate(rate=rate)
    steps = _check.count(steps=steps)
    exponent = _exponent(noise_multiplier)
    if rate == 0.0 or steps == 0:
        return 0.0
    if exponent > _LARGEST_EXPONENT:
        return math.inf
    return rate * math.sqrt(steps * math.expm1(exponent))


def clt_mu_fixed_size(rate: float, steps: int, noise_multiplier: float) -> float:
    """mu of the CLT for sampling a fixed number without replacement.

    An approximation (Bu et al., arXiv:1911.11607, Section 3): sqrt(2) q sqrt(T)
    sqrt(e^(1/z^2) Phi(3/(2z)) + 3 Phi(-1/(2z)) - 2).

    >>> round(clt_mu_fixed_size(256 / 60000, 3516, 1.3), 4)
    0.2847
    """
    rate = _check.rate(rate=rate)
    steps = _check.count(steps=steps)
    exponent = _exponent(noise_multiplier)
    if rate == 0.0 or steps == 0:
        return 0.0
    if exponent > _LARGEST_EXPONENT:
        return math.inf
    x = math.sqrt(exponent)
    # e^(x^2) Phi(3x/2) + 3 Phi(-x/2) - 2, with the leading terms taken apart.
    value = math.expm1(exponent) * normal_cdf(1.5 * x) + (
        0.5 * math.erf(1.5 * x / math.sqrt(2.0))
        - 1.5 * math.erf(0.5 * x / math.sqrt(2.0))
    )
    return rate * math.sqrt(2.0 * steps * max(value, 0.0))


def clt_noise_multiplier(
    epsilon: float, delta: float, rate: float, steps: int
) -> float:
    """The noise multiplier at which the Poisson CLT reports `epsilon`.

    An approximation, in closed form once mu is known; what it reports is
    usually less than what such noise really costs.

    >>> round(clt_noise_multiplier(1.0, 1 / 149, 0.05, 20), 5)
    0.74803
    """
    epsilon = _check.at_least_zero(epsilon=epsilon)
    delta = _check.probability(delta=delta)
    rate = _check.rate(rate=rate)
    steps = _check.count(least=1, steps=steps)
    if rate == 0.0:
        raise CalibrationError("rate=0.0 releases nothing: no noise is needed")
    mu = solve_gaussian_mu(epsilon, delta)
    return 1.0 / math.sqrt(math.log1p((mu / rate) ** 2 / steps))


def _exponent(noise_multiplier: float) -> float:
    z = _check.at_least_zero(noise_multiplier=noise_multiplier)
    inverse = 1.0 / z if z > 0.0 else math.inf
    return inverse * inverse
