"""One unknown in a run of Poisson-sampled Gaussians, solved inside the kernels.

What `calibrate` and `calibrate_count` give with `pld_curve`, sooner, and with
whatever else has been released already counted in.

>>> noise_multiplier_for(2.0, 1e-5, 0.05, 20).__round__(4)
0.9968
>>> cohort_size_for(2.0, 1e-5, 1.0, 1000, 20)
50
"""

from __future__ import annotations

import math
from collections.abc import Callable

from drdp import _check
from drdp.errors import CalibrationError
from drdp.privacy._special import solve_gaussian_mu
from drdp.privacy.asking import Composition, composition
from drdp.privacy.calibration import Within, calibrate, within
from drdp.privacy.events import NOTHING, Event, Gaussian, PoissonSampled, atoms
from drdp.privacy.kernel import gear
from drdp.privacy.pld import pld_curve

__all__ = ["cohort_size_for", "noise_multiplier_for"]

_WORST = "drdp.privacy.worst"
_CAP = 1e6  # passes; what needs more is left to the accountant
_AIM = 1e-8  # relative error of delta where a whole number is asked for


def noise_multiplier_for(
    epsilon: float,
    delta: float,
    rate: float,
    steps: int,
    *,
    beside: Event = NOTHING,
    rtol: float = 1e-6,
) -> float:
    """The certified noise multiplier of Poisson-sampled Gaussian rounds.

    The search runs inside the kernels, and only its last steps at full
    precision.

    Args:
        epsilon: The target of everything together, above 0.
        delta: Strictly between 0 and 1.
        rate: The sampling rate, in (0, 1].
        steps: The number of rounds, at least 1.
        beside: What has been released already, or will be: other rounds,
            another stage.  It is charged to the same target.
        rtol: How close to the boundary the answer must be, relatively.

    Returns:
        A noise multiplier that was tested private under add/remove and
        zero-out adjacency.

    Raises:
        CalibrationError: If `beside` alone exceeds the target, or the target
            asks for nothing.

    >>> spent = PoissonSampled(0.05, Gaussian(1.5)) * 10
    >>> round(noise_multiplier_for(2.0, 1e-5, 0.05, 20, beside=spent), 4)
    1.0069
    """
    target = within(_check.positive(epsilon=epsilon), delta)
    rate = _check.positive(rate=_check.rate(rate=rate))
    rtol = _check.positive(rtol=rtol)
    steps = _check.count(least=1, steps=steps)

    def run(noise: float) -> Event:
        return PoissonSampled(rate, Gaussian(noise)) * steps + beside

    atoms(run(1.0))  # one adjacency, and nothing unknown
    guess = _guess(target, rate, steps, _left(target, beside))
    found = _terms(rate, guess, steps, beside)
    if found is not None and (len(found.kinds) > 1 or (rate < 1.0 and steps > 1)):
        module = gear(_WORST, 5e5)
        noise, _, status = module.noise_for(
            found.buffers(module), epsilon, math.log(delta), guess, rtol, _CAP
        )
        if status == 0:
            return float(noise)
    return calibrate(run, pld_curve, target, guess=guess, rtol=rtol)


def cohort_size_for(
    epsilon: float,
    delta: float,
    noise_multiplier: float,
    population: int,
    steps: int,
    *,
    beside: Event = NOTHING,
) -> int:
    """The most clients that a round may draw, in expectation.

    Every client of a population takes part in a round with the same
    probability, cohort / population, independently of all others; the noise
    stays as it is.

    Args:
        epsilon: The target of everything together, above 0.
        delta: Strictly between 0 and 1.
        noise_multiplier: Noise standard deviation / clip norm of a round.
        population: How many clients there are, at least 1.
        steps: The number of rounds, at least 1.
        beside: What has been released already, or will be.

    Returns:
        The largest whole number, up to the population, at which the run was
        tested private; 0 where not even one client may be drawn.

    Raises:
        CalibrationError: If `beside` alone exceeds the target.

    >>> cohort_size_for(8.0, 1e-5, 0.65524, 60_000, 14_000)
    256
    """
    target = within(_check.positive(epsilon=epsilon), delta)
    noise = _check.positive(noise_multiplier=noise_multiplier)
    population = _check.count(least=1, population=population)
    steps = _check.count(least=1, steps=steps)

    def run(cohort: int) -> Event:
        return PoissonSampled(cohort / population, Gaussian(noise)) * steps + beside

    atoms(run(1))
    left = _left(target, beside)

    def excess(cohort: int) -> float:
        found = _terms(cohort / population, noise, steps, beside)
        if found is not None and 0.05 < noise < 1e5:
            module = gear(_WORST, 2e4)
            _, high, _, work, status = module.worst(
                found.buffers(module), False, epsilon, _AIM, _CAP, math.log(delta)
            )
            gear(_WORST, work)
            if status == 0:
                return float(high) - math.log(delta)
        return target.excess(pld_curve(run(cohort)))

    # the rate at which the central limit meets what is left
    rate = math.sqrt(left / steps / math.expm1(min(1.0 / noise**2, 600.0)))
    return _largest(excess, population, round(rate * population))


def _left(target: Within, beside: Event) -> float:
    """mu^2 of the Gaussian that just fits into what `beside` leaves."""
    whole = solve_gaussian_mu(target.epsilon, target.delta)
    if beside == NOTHING:
        return whole * whole
    spent = pld_curve(beside).delta(target.epsilon)
    if not spent < target.delta:
        raise CalibrationError(
            f"what was released beside has delta {spent:.3g} at epsilon"
            f" {target.epsilon:g}, more than the {target.delta:.3g} allowed for all;"
            " allow a larger epsilon or delta"
        )
    used = solve_gaussian_mu(target.epsilon, spent) if spent > 0.0 else 0.0
    return max(whole * whole - used * used, 1e-6 * whole * whole)


def _guess(target: Within, rate: float, steps: int, left: float) -> float:
    """The noise at which the central limit meets what is left."""
    return min(max(1.0 / math.sqrt(math.log1p(left / steps / rate**2)), 0.05), 1e5)


def _terms(rate: float, noise: float, steps: int, beside: Event) -> Composition | None:
    """The run first, then what is beside it."""
    return composition(
        ((PoissonSampled(rate, Gaussian(noise)), steps), *atoms(beside).items())
        if rate < 1.0
        else ((Gaussian(noise), steps), *atoms(beside).items())
    )


def _largest(excess: Callable[[int], float], most: int, guess: int) -> int:
    """The largest count with excess(count) <= 0, which grows with the count.

    Newton's steps on excess against log count by secants, while both ends of
    the bracket close in; halving where they stall.
    """
    fits, fails = 0, most + 1
    before: tuple[int, float] | None = None
    count = min(max(guess, 1), most)
    for tried in range(200):
        value = excess(count)
        if value <= 0.0:
            fits = count
        else:
            fails = count
        if fails - fits == 1:
            return fits
        aim = count * math.exp(-0.3 * value) if math.isfinite(value) else 0.0
        if before is not None and before[1] != value and tried < 20:
            slope = (value - before[1]) / math.log(count / before[0])
            if slope > 0.0 and math.isfinite(slope):
                aim = count * math.exp(min(max(-value / slope, -3.0), 3.0))
        before = (count, value)
        # one beyond the root, to have it bracketed
        count = math.floor(min(aim, 2.0 * most)) + (0 if value > 0.0 else 1)
        if not fits < count < fails or tried >= 20:
            count = min(max(count, fits + 1), fails - 1)
            if tried >= 20:
                count = (fits + fails) // 2
    return fits
