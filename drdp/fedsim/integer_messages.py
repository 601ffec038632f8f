"""Codes as integers under discrete noise: what a round costs, and how they travel.

For an engine with secure aggregation, three pure functions are enough: a client
sends `message` of its code, the aggregation adds messages modulo 2^bits, and the
server reads the noised sum of codes with `code_of_sum`; `integer_mechanism` holds
what both need to know.

>>> import numpy as np
>>> from drdp.mechanisms.modular import secure_sum
>>> from drdp.mechanisms.noise import SecureNoise
>>> from drdp.privacy.threat import FixedCohort
>>> plan = Protection(
...     FixedCohort(5, 100), clip_norm=1.0, noise_multiplier=2.0,
...     placement="distributed", view="sum", survivors=4,
...     mechanism="skellam", granularity=2**-10, code_length=3)
>>> shared = integer_mechanism(plan, clients=5)
>>> code, rng = np.array([0.3, -0.2, 0.1]), SecureNoise()
>>> sent = [message(shared, code, rounding=rng, noise=rng) for _ in range(5)]
>>> code_of_sum(shared, secure_sum(sent, shared.bits)).shape
(3,)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drdp.errors import InvalidArgumentError, UnsoundThreatModelError
from drdp.fedsim.protection import MechanismName, Protection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.mechanisms.integer_noise import (
        DiscreteGaussianMechanism,
        SkellamMechanism,
    )
    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["code_of_sum", "integer_mechanism", "message"]


def integer_mechanism(
    protection: Protection, *, clients: int
) -> DiscreteGaussianMechanism | SkellamMechanism:
    """The mechanism of a run with discrete noise.

    Args:
        protection: With mechanism discrete-gaussian or skellam.
        clients: The most messages in one sum; decides how many bits they have, and
            has nothing to do with privacy.

    Guarantees:
        Its noise is at least what ``protection.event`` counts on: each share has
        standard deviation ``noise_multiplier * clip_norm``, and ``survivors``
        honest shares are counted.

    Raises:
        InvalidArgumentError: If the noise is Gaussian, or the grid is too fine or
            too coarse for the noise.
        UnsoundThreatModelError: If there is no noise.
    """
    from drdp.mechanisms.integer_noise import (
        DiscreteGaussianMechanism,
        SkellamMechanism,
    )

    if protection.mechanism is MechanismName.GAUSSIAN:
        raise InvalidArgumentError(
            "mechanism must be discrete-gaussian or skellam for integer messages, got"
            " gaussian"
        )
    if not protection.noisy:
        raise UnsoundThreatModelError(
            "noise_multiplier must be positive with discrete noise, got 0: without"
            " noise there is nothing to draw; use mechanism gaussian"
        )
    aggregation, shares = protection.aggregation, protection.counted_shares
    step = protection.noise_multiplier / protection.granularity
    whole = step * math.sqrt(shares or 1) / aggregation.sensitivity
    skellam = protection.mechanism is MechanismName.SKELLAM
    return (SkellamMechanism if skellam else DiscreteGaussianMechanism)(
        noise_multiplier=whole,
        clip_norm=protection.clip_norm,
        granularity=protection.granularity * protection.clip_norm,
        length=aggregation.grid.length,
        clients=max(clients, shares or 1),
        survivors=shares,
        adjacency=protection.relation,
    )


def message(
    mechanism: DiscreteGaussianMechanism | SkellamMechanism,
    code: NDArray[np.float64],
    *,
    rounding: NoiseSource,
    noise: NoiseSource,
) -> NDArray[np.int64]:
    """What one client sends: its clipped code on the grid, with its share of noise.

    Args:
        mechanism: The run's, from `integer_mechanism`.
        code: Flat floating-point numbers; what is not finite becomes 0.
        rounding: Randomness of the rounding; any will do for the guarantee.
        noise: Of the share; the guarantee is void where it is not secure.

    Returns:
        Whole numbers from 0 to 2^bits - 1; more of them than the code has, a power
        of two.
    """
    bounded = mechanism.aggregation.grid.rounded(code, rounding).value
    return mechanism.share(bounded, noise)


def code_of_sum(
    mechanism: DiscreteGaussianMechanism | SkellamMechanism, total: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The noised sum of codes, from the sum of messages modulo 2^bits.

    The caller makes sure that messages of at least `survivors` honest clients are
    in it, and does not look at any sum of fewer: `Protection.check_round`.
    """
    return mechanism.unwrap(total)
