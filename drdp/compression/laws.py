"""Random numbers with mean 0, variance 1 and a given skewness and kurtosis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["shaped"]

_FLATTEST = -1.19  # the uniform law has -1.2, as the limit of an infinite power
_NORMAL = 1e-3  # nearer to 0 than this, a law is the normal one
_STEEPEST = 1e4
_FURTHEST = 3.0  # of log gamma, the ratio of the two halves' scales


def shaped(
    rng: np.random.Generator, count: int, skewness: float, kurtosis: float
) -> NDArray[np.float64]:
    """Draws from a standardised law of this skewness and excess kurtosis.

    The kurtosis is that of a Student law (above 0) or of a generalised normal
    one (below), whose halves are then stretched by gamma and 1/gamma (Fernandez
    and Steel, On Bayesian modeling of fat tails and skewness, 1998) until the
    skewness fits.

    Args:
        rng: Where the draws come from.
        count: How many.
        skewness: Third standardised moment; where the law cannot reach it, the
            nearest that it can.
        kurtosis: Fourth, minus 3; met exactly where the skewness is 0 and
            exceeded otherwise.

    >>> import numpy as np
    >>> draws = shaped(np.random.default_rng(0), 100_000, 0.0, -1.0)
    >>> bool(abs(draws.std() - 1) < 0.01), bool(abs((draws**4).mean() - 2) < 0.05)
    (True, True)
    """
    import numpy as np

    kurtosis = min(max(kurtosis, _FLATTEST), _STEEPEST)
    if abs(kurtosis) < _NORMAL:
        size = np.abs(rng.standard_normal(count))
        absolute = [math.sqrt(2.0 / math.pi), 1.0, 2.0 * math.sqrt(2.0 / math.pi)]
    elif kurtosis > 0.0:
        size, absolute = _student(rng, count, 4.0 + 6.0 / kurtosis)
    else:
        size, absolute = _flat(rng, count, kurtosis)
    if abs(skewness) < _NORMAL:
        return np.where(rng.random(count) < 0.5, -size, size)
    gamma = _gamma(skewness, absolute)
    positive = rng.random(count) < gamma**2 / (1.0 + gamma**2)
    mean, variance, _ = _moments(gamma, absolute)
    return (np.where(positive, gamma * size, -size / gamma) - mean) / math.sqrt(
        variance
    )


def _student(
    rng: np.random.Generator, count: int, freedom: float
) -> tuple[NDArray[np.float64], list[float]]:
    """Absolute values of Student's t at variance 1, and their three moments."""
    import numpy as np

    scale = math.sqrt((freedom - 2.0) / freedom)
    absolute = [
        math.exp(
            0.5 * r * math.log(freedom - 2.0)
            + math.lgamma(0.5 * (r + 1))
            + math.lgamma(0.5 * (freedom - r))
            - math.lgamma(0.5 * freedom)
        )
        / math.sqrt(math.pi)
        for r in (1, 2, 3)
    ]
    return np.abs(rng.standard_t(freedom, count)) * scale, absolute


def _flat(
    rng: np.random.Generator, count: int, kurtosis: float
) -> tuple[NDArray[np.float64], list[float]]:
    """Absolute values of the law exp(-|x|^power), power above 2, at variance 1."""
    import numpy as np
    from scipy.optimize import brentq

    def moment(r: float, power: float) -> float:
        return math.exp(math.lgamma((r + 1) / power) - math.lgamma(1 / power))

    def excess(power: float) -> float:
        return moment(4, power) / moment(2, power) ** 2 - 3.0 - kurtosis

    power = float(brentq(excess, 2.0, 1e3))
    scale = 1.0 / math.sqrt(moment(2, power))
    size = rng.standard_gamma(1.0 / power, count) ** (1.0 / power) * scale
    return np.asarray(size), [moment(r, power) * scale**r for r in (1, 2, 3)]


def _moments(gamma: float, absolute: list[float]) -> tuple[float, float, float]:
    """Mean, variance and skewness of the law with stretched halves."""
    raw: list[Any] = [
        absolute[r - 1]
        * (gamma ** (r + 1) + (-1) ** r * gamma ** -(r + 1))
        / (gamma + 1 / gamma)
        for r in (1, 2, 3)
    ]
    mean = raw[0]
    variance = raw[1] - mean**2
    third = raw[2] - 3.0 * mean * raw[1] + 2.0 * mean**3
    return mean, variance, third / variance**1.5


def _gamma(skewness: float, absolute: list[float]) -> float:
    """The least stretching that gives this skewness, or comes nearest.

    Skewness first rises with gamma and may fall again where the halves are flat.
    """
    from scipy.optimize import brentq

    target = abs(skewness)

    def miss(log_gamma: float) -> float:
        return _moments(math.exp(log_gamma), absolute)[2] - target

    steps = [_FURTHEST * i / 100 for i in range(101)]
    misses = [miss(step) for step in steps]
    after = next((i for i, gap in enumerate(misses) if gap >= 0.0), None)
    if after is None:
        found = steps[max(range(len(steps)), key=misses.__getitem__)]
    else:
        found = float(brentq(miss, steps[after - 1], steps[after]))
    return math.exp(math.copysign(found, skewness))
