"""What a threat model leaves of the noise, as an event; and the noise to add.

>>> from drdp.privacy.threat import FixedCohort
>>> paper = ThreatModel(View.OUTSIDER, Placement.DISTRIBUTED, FixedCohort(5, 100))
>>> round(effective_multiplier(paper, noise_std=2 * 0.748028 / 5), 6)
0.334528
>>> round(noise_std(paper, multiplier=0.748028), 6)
0.669057
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from drdp import _check
from drdp.errors import UnsoundThreatModelError
from drdp.privacy._special import solve_gaussian_mu
from drdp.privacy.calibration import calibrate, within
from drdp.privacy.curves import Interval
from drdp.privacy.events import (
    NOTHING,
    Adjacency,
    Event,
    FixedSizeSampled,
    Gaussian,
    NonPrivate,
    PoissonSampled,
)
from drdp.privacy.pld import epsilon_interval, pld_curve
from drdp.privacy.sampling import FixedSizeZeroOut
from drdp.privacy.threat import (
    FixedCohort,
    Placement,
    PoissonCohort,
    ThreatModel,
    View,
)

__all__ = [
    "effective_event",
    "effective_multiplier",
    "exposure",
    "noise_std",
    "noise_std_for",
    "reached_event",
    "share_leak",
]


def effective_multiplier(threat: ThreatModel, noise_std: float) -> float:
    """The noise multiplier that the adversary really faces in one release.

    Args:
        threat: Who sees what.
        noise_std: The standard deviation of the noise as it is added: per
            client, or once to the sum where the noise is central.

    Returns:
        The standard deviation of the noise on what is seen, divided by how far
        one neighbour moves it; 0 where no noise covers it.

    >>> alone = ThreatModel(View.MESSAGES, "local", FixedCohort(5, 100))
    >>> effective_multiplier(alone, noise_std=3.0)
    1.5
    """
    return _per_contribution(threat, noise_std) / threat.distance


def noise_std(threat: ThreatModel, multiplier: float) -> float:
    """The noise to add so that the adversary faces a wanted multiplier.

    Args:
        threat: Who sees what.
        multiplier: The effective noise multiplier that is wanted.

    Returns:
        A standard deviation, per client or for the sum as the placement says,
        with ``effective_multiplier(threat, noise_std) >= multiplier``.

    Raises:
        UnsoundThreatModelError: If noise at that place covers nothing that the
            adversary sees.

    >>> alone = ThreatModel(View.MESSAGES, "local", FixedCohort(5, 100))
    >>> noise_std(alone, multiplier=1.5)
    3.0
    """
    multiplier = _check.positive(multiplier=multiplier)
    if _uncovered(threat):
        raise UnsoundThreatModelError(
            "central noise is added to the sum and covers no single message, so no"
            " amount protects against a server that sees each message; use"
            " placement local"
        )
    found = multiplier * threat.sensitivity / math.sqrt(threat.shares)
    while effective_multiplier(threat, found) < multiplier:
        found = math.nextafter(found, math.inf)
    return found


def effective_event(threat: ThreatModel, noise_std: float, rounds: int) -> Event:
    """What `rounds` rounds release to the adversary, never less than they do.

    To calibrate noise, search over `noise_std`:
    ``calibrate(lambda s: effective_event(threat, s, rounds), pld_curve, target)``.

    Args:
        threat: Who sees what.
        noise_std: The standard deviation of the noise as it is added.
        rounds: How many rounds release something.  All of them count: every
            round's model is sent out, so the last one is not special.

    Returns:
        An event whose upper curves hold against this adversary.  Where
        participation is seen, or limited, it composes the most participations
        that are possible, without sampling.

    >>> seen = ThreatModel(View.MESSAGES, "distributed", FixedCohort(5, 100))
    >>> effective_event(seen, 0.5, rounds=20)
    Repeated(event=Gaussian(noise_multiplier=0.25), count=20)
    """
    rounds = _check.count(rounds=rounds)
    noise = _per_contribution(threat, noise_std)
    if rounds == 0:
        return NOTHING
    if _uncovered(threat):
        return NonPrivate()
    match threat.cohort:
        case PoissonCohort(rate) if threat.amplified:
            return PoissonSampled(rate, Gaussian(noise), threat.adjacency) * rounds
        case FixedCohort(size, population) if threat.amplified:
            # Those who collude know whether they took part; at most `size` are
            # drawn from the others.
            others = population - threat.colluding
            if others > size:
                return _fixed_size(threat, size, others, noise) * rounds
    return _unsampled(threat, noise, rounds)


def reached_event(threat: ThreatModel, noise_std: float, rounds: int) -> Event:
    """What some run under this threat model does release: for lower bounds.

    It is `effective_event` where that is attained.  For fixed-size cohorts it
    leaves out what colluding clients know.

    Args:
        threat: Who sees what.
        noise_std: The standard deviation of the noise as it is added.
        rounds: How many rounds release something.
    """
    cohort = threat.cohort
    event = effective_event(threat, noise_std, rounds)
    if (
        not threat.amplified
        or not isinstance(cohort, FixedCohort)
        or event in (NOTHING, NonPrivate())
    ):
        return event
    noise = _per_contribution(threat, noise_std)
    if threat.placement is Placement.DISTRIBUTED:
        noise *= math.sqrt((threat.shares + threat.colluding) / threat.shares)
    size = threat.survivors or cohort.clients_per_round
    return _fixed_size(threat, size, cohort.population, noise) * rounds


def exposure(
    threat: ThreatModel,
    noise_std: float,
    rounds: int,
    delta: float,
    *,
    tolerance: float = 1e-4,
) -> Interval:
    """The certified epsilon of a run against an adversary.

    Args:
        threat: Who sees what.
        noise_std: The standard deviation of the noise as it is added.
        rounds: How many rounds release something.
        delta: Strictly between 0 and 1.
        tolerance: The width to aim for.

    Returns:
        (lower, upper, method).

    Guarantees:
        Every run under the threat model is (upper, delta)-DP against this
        adversary; none of the proofs could give less than lower for all runs.

    >>> paper = ThreatModel(View.OUTSIDER, "distributed", FixedCohort(5, 100))
    >>> low, high, _ = exposure(paper, 2 * 0.748028 / 5, rounds=20, delta=1 / 149)
    >>> round(low, 2), round(high, 2)
    (12.28, 12.79)
    """
    rounds = _check.count(rounds=rounds)
    event = effective_event(threat, noise_std, rounds)
    reached = reached_event(threat, noise_std, rounds)
    upper = lower = epsilon_interval(event, delta, tolerance=tolerance)
    if reached != event:
        lower = epsilon_interval(reached, delta, tolerance=tolerance)
    if threat.adjacency is Adjacency.ZERO_OUT and threat.amplified:
        # Without sampling a client's zero is half as far away as another client's
        # message is with it, which is less where nearly everybody takes part.
        plain = _unsampled(threat, _per_contribution(threat, noise_std), rounds)
        also = epsilon_interval(plain, delta, tolerance=tolerance)
        upper = min(upper, also, key=lambda found: found.upper)
    if upper is lower:
        return upper
    methods = dict.fromkeys((lower.method, upper.method))
    return Interval(min(lower.lower, upper.upper), upper.upper, " and ".join(methods))


def noise_std_for(
    threat: ThreatModel,
    epsilon: float,
    delta: float,
    rounds: int,
    *,
    tolerance: float = 1e-6,
    rtol: float = 1e-6,
) -> float:
    """The noise to add so that a run keeps to a budget against an adversary.

    Args:
        threat: Who sees what.
        epsilon: The target, above 0.
        delta: Strictly between 0 and 1.
        rounds: How many rounds release something, at least 1.
        tolerance: As for `pld_curve`; a coarser one is sooner and asks for more.
        rtol: How close to the boundary the answer must be, relatively.

    Returns:
        A standard deviation, per client or for the sum as the placement says,
        that was tested to meet the target.

    Raises:
        UnsoundThreatModelError: If noise at that place covers nothing that the
            adversary sees.
        CalibrationError: If the target asks for nothing, or cannot be met.

    >>> mended = ThreatModel(View.OUTSIDER, "distributed", FixedCohort(5, 100))
    >>> round(noise_std_for(mended, 1.0, 1 / 149, rounds=20), 3)
    0.774
    """
    target = within(_check.positive(epsilon=epsilon), delta)
    rounds = _check.count(least=1, rounds=rounds)
    plain = noise_std(threat, 1.0)

    def solve(threat: ThreatModel, guess: float) -> float:
        return calibrate(
            lambda multiple: effective_event(threat, multiple * plain, rounds),
            partial(pld_curve, tolerance=tolerance),
            target,
            guess=guess,
            rtol=rtol,
        )

    times = min(rounds, threat.max_participations or rounds)
    unsampled = math.sqrt(times) / solve_gaussian_mu(epsilon, delta)
    if not threat.amplified:
        return plain * solve(threat, unsampled)
    found = solve(threat, 0.5 * unsampled)
    if threat.adjacency is Adjacency.ZERO_OUT:
        found = min(found, solve(replace(threat, amplify=False), unsampled))
    return plain * found


def share_leak(dimension: int, shares: int) -> float:
    """How plainly the variance of a sum shows whether one noise share is missing.

    Args:
        dimension: The number of coordinates, each with independent noise.
        shares: How many shares there are without the one in question.

    Returns:
        The Kullback-Leibler divergence, in nats, of noise of `shares` + 1 equal
        shares from noise of `shares`:
        ``d/2 (r - 1 - log r)`` with ``r = (shares + 1) / shares``.

    >>> round(share_leak(131_072, 5), 2)
    1158.57
    """
    dimension = _check.count(least=1, dimension=dimension)
    excess = 1.0 / _check.count(least=1, shares=shares)
    return 0.5 * dimension * (excess - math.log1p(excess))


def _fixed_size(threat: ThreatModel, size: int, population: int, noise: float) -> Event:
    """One round with a sample of fixed size; `noise` is per contribution."""
    if threat.adjacency is Adjacency.ZERO_OUT:
        return FixedSizeZeroOut(size, population, Gaussian(noise))
    return FixedSizeSampled(size, population, Gaussian(noise / 2.0))


def _unsampled(threat: ThreatModel, noise: float, rounds: int) -> Event:
    times = min(rounds, threat.max_participations or rounds)
    return Gaussian(noise / threat.distance) * times


def _per_contribution(threat: ThreatModel, noise_std: float) -> float:
    """Noise of what is seen / norm of one contribution to it."""
    noise_std = _check.at_least_zero(noise_std=noise_std)
    if _uncovered(threat):
        return 0.0
    return noise_std * math.sqrt(threat.shares) / threat.clipping.norm


def _uncovered(threat: ThreatModel) -> bool:
    return threat.placement is Placement.CENTRAL and threat.view is View.MESSAGES
