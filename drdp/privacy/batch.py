"""Many certified answers at once, for Poisson-sampled Gaussians.

Arguments broadcast as in numpy; compiled kernels do the work on all
processors.  What they leave unanswered, or answer with an interval wider than
the accountant's own, goes through the accountant one by one, so every element
is certified.

>>> epsilons([1.0, 2.0], rate=0.05, steps=20, delta=1e-5).round(4)
array([1.9847, 0.5143])
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
from drdp.errors import InvalidArgumentError
from drdp.privacy._special import solve_gaussian_mu
from drdp.privacy.events import Event, Gaussian, PoissonSampled
from drdp.privacy.inversion import noise_multiplier_for
from drdp.privacy.kernel import compiled
from drdp.privacy.pld import delta_interval, epsilon_interval

__all__ = ["deltas", "epsilons", "noise_multipliers"]

Array = NDArray[np.float64]

_AIM = 1e-9
_TOLERANCE = 1e-6  # the accountant's default
_CAP = 1e6  # passes; what needs more is answered one by one
_CHUNK = 64
_ROUND_UP = 1.0 + 1e-14
_LEAST = 1e-300  # what is below any double is not 0
_EPSILON, _DELTA, _NOISE = 0, 1, 2  # the kernel's questions


def epsilons(
    noise_multiplier: ArrayLike, *, rate: ArrayLike, steps: ArrayLike, delta: ArrayLike
) -> Array:
    """Certified upper epsilons of Poisson-sampled Gaussians.

    Args:
        noise_multiplier: Noise standard deviation / clip norm, above 0.
        rate: Sampling rates in (0, 1].
        steps: Whole numbers, at least 1.
        delta: Strictly between 0 and 1.

    Returns:
        An array of the broadcast shape: the epsilon that `pld_curve` gives.

    Guarantees:
        No element is below the truth under add/remove or zero-out adjacency.
    """
    (z, q, t, d), shape = _columns(
        noise_multiplier=noise_multiplier, rate=rate, steps=steps, delta=delta
    )
    values, good = _kernel(_EPSILON, q, t, z, d, np.log(d), _AIM)

    def alone(i: int) -> float:
        return epsilon_interval(_run(z[i], q[i], t[i]), d[i]).upper

    return _filled(values, good, alone).reshape(shape)


def deltas(
    noise_multiplier: ArrayLike,
    *,
    rate: ArrayLike,
    steps: ArrayLike,
    epsilon: ArrayLike,
) -> Array:
    """Certified upper deltas of Poisson-sampled Gaussians.

    Arguments and guarantees are those of `epsilons`; `epsilon` is above 0.
    """
    (z, q, t, e), shape = _columns(
        noise_multiplier=noise_multiplier, rate=rate, steps=steps, epsilon=epsilon
    )
    logs, good = _kernel(_DELTA, q, t, z, e, np.zeros_like(e), _AIM)
    values = np.clip(np.exp(logs) * _ROUND_UP, _LEAST, 1.0)

    def alone(i: int) -> float:
        return delta_interval(_run(z[i], q[i], t[i]), e[i]).upper

    return _filled(values, good, alone).reshape(shape)


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
        rtol: How close to the boundary each answer must be, relatively.

    Returns:
        An array of the broadcast shape; each element was tested private.

    Raises:
        CalibrationError: If a target asks for nothing, or cannot be met.

    >>> noise_multipliers([1, 2, 4], delta=1e-5, rate=0.05, steps=20).round(4)
    array([1.3646, 0.9968, 0.7456])
    """
    rtol = _check.positive(rtol=rtol)
    (e, d, q, t), shape = _columns(epsilon=epsilon, delta=delta, rate=rate, steps=steps)
    guess = np.array([_guess(*row) for row in zip(e, d, q, t, strict=True)])
    values, good = _kernel(_NOISE, q, t, guess, e, np.log(d), rtol)

    def alone(i: int) -> float:
        return noise_multiplier_for(e[i], d[i], q[i], int(t[i]), rtol=rtol)

    return _filled(values, good, alone).reshape(shape)


def _run(noise_multiplier: float, rate: float, steps: float) -> Event:
    return PoissonSampled(rate, Gaussian(noise_multiplier)) * int(steps)


def _guess(epsilon: float, delta: float, rate: float, steps: float) -> float:
    """The noise at which the CLT meets the target."""
    square = solve_gaussian_mu(epsilon, delta) ** 2 / steps
    return min(max(1.0 / math.sqrt(math.log1p(square / rate**2)), 0.05), 1e5)


def _columns(**named: ArrayLike) -> tuple[list[Array], tuple[int, ...]]:
    """Checked arguments as flat columns of one length, and their shape."""
    try:
        arrays = np.broadcast_arrays(
            *(np.asarray(value, dtype=np.float64) for value in named.values())
        )
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"{', '.join(named)} must be numbers that broadcast together: {error}"
        ) from None
    for name, array in zip(named, arrays, strict=True):
        good = (array > 0.0) & np.isfinite(array)
        if name == "rate":
            good &= array <= 1.0
        elif name == "delta":
            good &= array < 1.0
        elif name == "steps":
            good &= array == np.floor(array)
        if not good.all():
            wanted = _DOMAINS[name]
            raise InvalidArgumentError(
                f"{name} must be {wanted}, got {array[~good].flat[0]!r}"
            )
    return [np.ascontiguousarray(array).ravel() for array in arrays], arrays[0].shape


_DOMAINS = {
    "noise_multiplier": "positive and finite",
    "epsilon": "positive and finite",
    "rate": "in (0, 1]",
    "delta": "strictly between 0 and 1",
    "steps": "whole numbers of at least 1",
}


def _kernel(
    question: int, q: Array, t: Array, z: Array, given: Array, logs: Array, aim: float
) -> tuple[Array, NDArray[np.bool_]]:
    """The upper ends by the compiled kernels; and where nothing else is needed.

    nan where they do not answer; good where they do, and within the tolerance
    of the accountant: in epsilon, relative where that is above 1, or relative
    in delta.
    """
    high = np.full(q.size, np.nan)
    good = np.zeros(q.size, dtype=np.bool_)
    # one step and no sampling have closed forms; absurd noise a coarse bound
    usual = np.flatnonzero((q < 1.0) & (t > 1.0) & (z > 0.05) & (z < 1e5))
    if usual.size == 0:
        return high, good
    many = compiled().many
    columns = [column[usual] for column in (q, t, z, given, logs)]

    def work(start: int) -> tuple[Array, Array, Array]:
        part = [column[start : start + _CHUNK] for column in columns]
        low, top, status = (np.zeros(part[0].size) for _ in range(3))
        many(question, *part, aim, _CAP, low, top, status)
        return low, top, status

    starts = range(0, usual.size, _CHUNK)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        answers: list[Any] = list(pool.map(work, starts))
    low, top, status = (np.concatenate(column) for column in zip(*answers, strict=True))
    answered = status == 0.0
    high[usual[answered]] = top[answered]
    scale = np.maximum(1.0, top) if question == _EPSILON else 1.0
    good[usual] = answered & (top - low <= _TOLERANCE * scale)
    return high, good


def _filled(
    values: Array, good: NDArray[np.bool_], alone: Callable[[int], float]
) -> Array:
    """The values, or the accountant's where those are missing or may be better."""
    for i in np.flatnonzero(~good):
        values[i] = np.fmin(values[i], alone(int(i)))
    return values
