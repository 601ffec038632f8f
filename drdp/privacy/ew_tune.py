"""How EW-Tune chooses its noise, and what that noise really costs.

EW-Tune (Behnia, Ebrahimi, Pacheco and Padmanabhan, arXiv:2210.15042) descends
through a grid of noise multipliers as long as a first-order Edgeworth expansion
stays below the target.  The expansion is an estimate and errs on the wrong side
there: the noise is too small for the epsilon that is claimed.
"""

from __future__ import annotations

from typing import NamedTuple

from drdp import _check
from drdp.errors import CalibrationError
from drdp.privacy.curves import Interval
from drdp.privacy.edgeworth import edgeworth_estimate
from drdp.privacy.events import Event, Gaussian, PoissonSampled
from drdp.privacy.pld import epsilon_interval

__all__ = ["EwTune", "ew_tune_noise_multiplier"]

_GRID = 2000  # grid points per unit of the noise multiplier
_FIRST = 2 * _GRID
_STRIDES = (1000, 100, 10, 1)  # .5, .05, .005, .0005
_FINE = 1e-4


class EwTune(NamedTuple):
    """The noise that EW-Tune would use: reproduced, not recommended.

    Args:
        noise_multiplier: Noise standard deviation / clip norm.
        estimate: The epsilon that the expansion reports for it.
        certified: An interval that contains the true epsilon.
        guarantee: What the estimate is worth.
    """

    noise_multiplier: float
    estimate: float
    certified: Interval
    guarantee: str = "none (Edgeworth point estimate)"


def ew_tune_noise_multiplier(
    epsilon: float, delta: float, rate: float, steps: int
) -> EwTune:
    """The noise multiplier that EW-Tune's calibration arrives at.

    Its search goes down from 2 in steps of .5, .05, .005 and .0005, each kept
    up while the order-1 estimate of the "remove" direction is below epsilon.

    Args:
        epsilon: The target, above 0.
        delta: Strictly between 0 and 1.
        rate: The sampling rate, in (0, 1].
        steps: The number of rounds, at least 1.

    Returns:
        The noise, with the certified epsilon beside it.

    Guarantees:
        None for the noise; its `certified` interval contains the true epsilon
        (Poisson sampling, add/remove).

    Raises:
        CalibrationError: If the search has no answer: noise of 2 is too little.

    References:
        arXiv:2210.15042, Section 4; the noise levels are those of its authors'
        published training logs (github.com/star-ailab/LLM_Tune).

    >>> found = ew_tune_noise_multiplier(8.0, 1e-6, 2000 / 392702, 3920)  # MNLI
    >>> found.noise_multiplier, round(found.certified.lower, 2)
    (0.573, 9.6)
    """
    epsilon = _check.positive(epsilon=epsilon)
    delta = _check.probability(delta=delta)
    rate = _check.positive(rate=_check.rate(rate=rate))
    steps = _check.count(least=1, steps=steps)

    def run(place: int) -> Event:
        return PoissonSampled(rate, Gaussian(place / _GRID)) * steps

    def estimate(place: int) -> float:
        found = edgeworth_estimate(run(place), delta, order=1, direction="remove")
        return found.epsilon

    place = _FIRST
    if not estimate(place) < epsilon:
        raise CalibrationError(
            f"EW-Tune searches noise multipliers up to 2 only, which is too little for"
            f" epsilon {epsilon:g}; use noise_multiplier_for"
        )
    for stride in _STRIDES:
        while place > stride and estimate(place - stride) < epsilon:
            place -= stride
    return EwTune(
        place / _GRID,
        estimate(place),
        epsilon_interval(run(place), delta, tolerance=_FINE),
    )
