"""Example-level sampling with user-level protection, as mixtures of Gaussians.

Charles et al., arXiv:2407.07737, call it ELS.  User-level sampling (ULS), where
users join a round and are clipped whole, is the plain
``PoissonSampled(rate, Gaussian(noise_multiplier))``.
"""

from __future__ import annotations

import math

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.privacy.events import NOTHING, Adjacency, Event, Gaussian
from drdp.privacy.releases import MixtureOfGaussians

__all__ = ["example_level", "example_level_fixed_size"]


def example_level(
    group_size: int,
    rate: float,
    noise_multiplier: float,
    *,
    adjacency: Adjacency = Adjacency.ADD_REMOVE,
) -> Event:
    """Example-level sampling with user-level protection, one round of it.

    Each example joins the round with probability `rate` and is clipped alone; a
    user has at most `group_size` of them, so moves the sum by a binomial number
    of clip norms.

    Args:
        group_size: The most examples of one user, by a rule that is public.
        rate: Probability with which an example joins.
        noise_multiplier: Noise standard deviation / clip norm of one example.
        adjacency: One user's examples more or less, or zeroed out.

    References: Charles et al., arXiv:2407.07737.

    >>> from drdp.privacy.pld import pld_curve
    >>> round(pld_curve(example_level(4, 0.01, 1.0)).epsilon(1e-6), 4)
    1.6763
    """
    group = _check.count(group_size=group_size)
    rate = _check.rate(rate=rate)
    z = _check.positive(noise_multiplier=noise_multiplier)
    if group == 0 or rate == 0.0:
        return NOTHING
    if rate == 1.0:
        return Gaussian(z / group)
    odds = rate / (1.0 - rate)
    ratios = [odds * (group - k) / (k + 1) for k in range(group)]
    return _group(group * math.log1p(-rate), ratios, z, adjacency)


def example_level_fixed_size(
    group_size: int, batch_size: int, population: int, noise_multiplier: float
) -> Event:
    """The same with batches of a fixed size, drawn without replacement.

    The relation is one user's examples more or less while the batch size stays:
    each of the user's examples in the batch takes the place of another one, so
    moves the sum by up to twice the clip norm.

    Args:
        group_size: The most examples of one user.
        batch_size: The examples of one round.
        population: The fewest examples there may be, the user's included.
        noise_multiplier: Noise standard deviation / *twice* the clip norm of
            one example, the replace-one sensitivity, as in `FixedSizeSampled`.
    """
    group = _check.count(group_size=group_size)
    population = _check.count(least=1, population=population)
    batch = _check.count(batch_size=batch_size)
    z = _check.positive(noise_multiplier=noise_multiplier)
    if batch > population - group:
        raise InvalidArgumentError(
            f"batch_size must be at most the {population - group} examples of the"
            f" others (population - group_size), got {batch}"
        )
    if group == 0 or batch == 0:
        return NOTHING
    none = math.fsum(math.log1p(-batch / (population - i)) for i in range(group))
    others = population - group - batch
    ratios = [
        (group - k) * (batch - k) / ((k + 1) * (others + k + 1))
        for k in range(min(group, batch))
    ]
    return _group(none, ratios, z, Adjacency.ADD_REMOVE)


def _group(
    log_none: float, ratios: list[float], z: float, adjacency: Adjacency
) -> MixtureOfGaussians:
    """The mixture over 0, 1, ... clip norms, from the odds of one more.

    Rounding moves mass upwards.  That costs no less: against N(0, z^2) the
    best tests are thresholds, and a larger shift passes them more often.
    """
    logs, sizes = [log_none], [abs(log_none)]
    for ratio in ratios:
        step = math.log(ratio)
        logs.append(logs[-1] + step)
        sizes.append(sizes[-1] + abs(step) + 4.0)
    weights, left = [], 1.0
    for log, size in zip(reversed(logs[1:]), reversed(sizes[1:]), strict=True):
        weights.append(min(left, math.exp(log) * (1.0 + 4e-16 * size)))
        left = max(0.0, left - weights[-1])
    weights.append(left)
    steps = tuple(float(k) for k in range(len(logs)))
    return MixtureOfGaussians(steps, tuple(reversed(weights)), z, adjacency)
