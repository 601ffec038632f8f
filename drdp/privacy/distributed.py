"""What a sum of discrete Gaussian shares costs, and the norm that rounding adds.

A sum of discrete Gaussians is not a discrete Gaussian, but nearly: Kairouz, Liu
and Steinke, arXiv:2102.06387, bound the difference.

>>> event = distributed_discrete_gaussian(5, 2.0, 10.0, dimension=100)
>>> round(event.rho, 12)
2.5
"""

from __future__ import annotations

import math

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.releases import ZeroConcentrated

__all__ = ["discrete_gaussian_gap", "distributed_discrete_gaussian", "rounded_norm"]


def discrete_gaussian_gap(shares: int, scale: float) -> float:
    """tau: how far a sum of discrete Gaussians is from a discrete Gaussian.

    10 sum_(k=1)^(n-1) exp(-2 pi^2 s^2 k / (k + 1)).

    Args:
        shares: n, how many of them are added.
        scale: s of each of them, at least sqrt(1/2).

    >>> round(discrete_gaussian_gap(5, 1.0), 9)
    0.00054161
    """
    shares = _check.count(least=1, shares=shares)
    scale = _check.positive(scale=scale)
    if scale * scale < 0.5 * (1.0 - 1e-12):
        raise InvalidArgumentError(
            f"scale must be at least sqrt(1/2) in each share, got {scale}: below"
            " that the sum is not close to a discrete Gaussian"
        )
    rate = 2.0 * (math.pi * scale) ** 2
    if shares > 10_000:  # the terms fall towards e^-rate: the first ones bound them
        head = math.fsum(math.exp(-rate * k / (k + 1)) for k in range(1, 10_000))
        rest = (shares - 10_000) * math.exp(-rate * 10_000 / 10_001)
        return 10.0 * (head + rest)
    return 10.0 * math.fsum(math.exp(-rate * k / (k + 1)) for k in range(1, shares))


def distributed_discrete_gaussian(
    shares: int, scale: float, sensitivity: float, *, dimension: int
) -> ZeroConcentrated:
    """A sum of integer vectors to which each client added discrete Gaussian noise.

    Args:
        shares: The honest clients whose noise is guaranteed to be in the sum.
        scale: The scale of each client's noise, in units of the integer grid.
        sensitivity: The L2 sensitivity of the sum, rounding included (see
            `rounded_norm`).
        dimension: The length of the vectors.

    Returns:
        The event of (e^2 / 2)-zCDP with e the smaller of
        sqrt(D^2 / (n s^2) + tau d / 2) and D / (sqrt(n) s) + tau sqrt(d).

    References: Kairouz, Liu and Steinke, arXiv:2102.06387.
    """
    tau = discrete_gaussian_gap(shares, scale)
    far = _check.positive(sensitivity=sensitivity)
    size = _check.count(least=1, dimension=dimension)
    plain = far / (math.sqrt(shares) * scale)
    joint = math.sqrt(plain * plain + 0.5 * tau * size)
    apart = plain + tau * math.sqrt(size)
    return ZeroConcentrated(0.5 * min(joint, apart) ** 2 * (1.0 + 1e-15))


def rounded_norm(norm: float, dimension: int, *, beta: float = math.exp(-0.5)) -> float:
    """The L2 norm that conditional stochastic rounding guarantees.

    Rounding to integers is drawn again until the norm is at most this; that
    inflated norm is the sensitivity of the rounded sum.

    Args:
        norm: The norm before rounding, in units of the grid.
        dimension: The length of the vector.
        beta: The probability with which one draw may be refused.

    References: Kairouz, Liu and Steinke, arXiv:2102.06387.

    >>> round(rounded_norm(64.0, 8192), 4)
    79.0775
    """
    norm = _check.at_least_zero(norm=norm)
    size = _check.count(least=1, dimension=dimension)
    beta = _check.probability(beta=beta)
    root = math.sqrt(size)
    likely = norm**2 + 0.25 * size
    likely += math.sqrt(2.0 * math.log(1.0 / beta)) * (norm + 0.5 * root)
    return math.sqrt(min(likely, (norm + root) ** 2))
