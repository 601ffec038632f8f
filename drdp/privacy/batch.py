"""Many certified answers at once, for Poisson-sampled Gaussians.

Arguments broadcast like numpy arrays; the work is done by compiled kernels on
all processors.  What the kernels leave unanswered goes through the accountant
one by one, so every element is certified.

>>> epsilons([1.0, 2.0], rate=0.05, steps=20, delta=1e-5).round(4)
array([1.9847, 0.5095])
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drdp import _check
from drdp.errors import CalibrationError, DrdpError, InvalidArgumentError
from drdp.privacy._special import solve_gaussian_mu
from drdp.privacy.calibration import calibrate, within
from drdp.privacy.events import Event, Gaussian, PoissonSampled
from drdp.privacy.kernel import compiled
from drdp.privacy.pld import delta_interval, epsilon_interval, pld_curve

__all__ = ["deltas", "epsilons", "noise_multiplier_for", "noise_multipliers"]

Array = NDArray[np.float64]

_AIM = 1e-9
_CAP = 1e6
_CHUNK = 256
_ROUND_UP = 1.0 + 1e-15


def epsilons(
    noise_multiplier: ArrayLike, *, rate: ArrayLike, steps: ArrayLike, delta: ArrayLike
) -> Array:
    """Certified upper epsilons of Poisson-sampled Gaussians.

    Args:
        noise_multiplier: Noise standard deviation / clip norm, above 0.
        rate: Sampling rates in [0, 1].
        steps: Whole numbers, at least 0.
        delta: Strictly between 0 and 1.

    Returns:
        An array of the broadcast shape, each element what
        ``pld_curve(...).epsilon(delta)`` gives, to about nine digits.

    Guarantees:
        No element is below the truth under add/remove or zero-out adjacency.
    """
    sigma, q, t, d = _columns(noise_multiplier, rate, steps, delta=delta)
    easy = _easy(q, t)
    values, done = _kernels(0, easy, q, t, sigma, d, np.log(d), _AIM)

    def slow(i: int) -> float:
        return epsilon_interval(_run(sigma[i], q[i], t[i]), d[i]).upper

    return _filled(values, done, slow).reshape(
        _shape(sigma, noise_multiplier, rate, steps, delta)
    )


def deltas(
    noise_multiplier: ArrayLike,
    *,
    rate: ArrayLike,
    steps: ArrayLike,
    epsilon: ArrayLike,
) -> Array:
    """Certified upper deltas of Poisson-sampled Gaussians.

    Arguments and guarantees as for `epsilons`, with `epsilon` at least 0.
    """
    sigma, q, t, e = _columns(noise_multiplier, rate, steps, epsilon=epsilon)
    easy = _easy(q, t)
    logs, done = _kernels(1, easy, q, t, sigma, e, np.zeros_like(e), _AIM)
    values = np.minimum(1.0, np.exp(logs) * _ROUND_UP)

    def slow(i: int) -> float:
        return delta_interval(_run(sigma[i], q[i], t[i]), e[i]).upper

    return _filled(values, done, slow).reshape(
        _shape(sigma, noise_multiplier, rate, steps, epsilon)
    )


def noise_multipliers(
    epsilon: ArrayLike,
    *,
    delta: ArrayLike,
    rate: ArrayLike,
    steps: ArrayLike,
    rtol: float = 1e-6,
) -> Array:
    """The noise multipliers that just meet targets, certified.

    Args:
        epsilon: Targets, above 0.
        delta: Strictly between 0 and 1.
        rate: Sampling rates in (0, 1].
        steps: Whole numbers, at least 1.
        rtol: How close to the boundary the answers must be, relatively.

    Returns:
        An array of the broadcast shape; each element was tested private.

    Raises:
        CalibrationError: If a target needs no noise at all, or none suffices.

    >>> noise_multipliers([1, 2, 4], delta=1e-5, rate=0.05, steps=20).round(4)
    array([1.3647, 0.9968, 0.7456])
    """
    rtol = _check.positive(rtol=rtol)
    e, q, t, d = _columns(epsilon, rate, steps, delta=delta, first="epsilon")
    guess = np.array([_first_guess(*row) for row in zip(e, d, q, t, strict=True)])
    easy = _easy(q, t) & (guess > 0.0)
    values, done = _kernels(2, easy, q, t, guess, e, np.log(d), rtol)

    def slow(i: int) -> float:
        return noise_multiplier_for(e[i], d[i], q[i], int(t[i]), rtol=rtol)

    return _filled(values, done, slow).reshape(_shape(e, epsilon, rate, steps, delta))


def noise_multiplier_for(
    epsilon: float, delta: float, rate: float, steps: int, *, rtol: float = 1e-6
) -> float:
    """One calibrated noise multiplier, through the accountant."""
    guess = _first_guess(epsilon, delta, rate, steps)
    return calibrate(
        lambda sigma: _run(sigma, rate, steps),
        pld_curve,
        within(epsilon, delta),
        guess=guess if guess > 0.0 else 1.0,
        rtol=rtol,
    )
