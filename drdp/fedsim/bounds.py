"""What bounds a client's code in a round, and hides it: one place for every engine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from drdp.fedsim.cohort import most_in_a_sum
from drdp.fedsim.integer_messages import integer_mechanism
from drdp.fedsim.protection import Protection
from drdp.fedsim.soundness import MechanismName

if TYPE_CHECKING:
    from drdp.mechanisms.adaptive import AdaptiveClip
    from drdp.mechanisms.gaussian import GaussianMechanism
    from drdp.mechanisms.integer_noise import (
        DiscreteGaussianMechanism,
        SkellamMechanism,
    )

__all__ = ["Bounds", "bounds_of"]


@final
@dataclass(frozen=True, slots=True)
class Bounds:
    """The mechanism of a round; none of them where nothing is clipped.

    Args:
        mechanism: With Gaussian noise, stated per contribution: the relation is the
            protection's business.
        integers: With noise on the integers.
        rule: What makes the next round's clip norm; None where it is fixed.
    """

    mechanism: GaussianMechanism | None = None
    integers: DiscreteGaussianMechanism | SkellamMechanism | None = None
    rule: AdaptiveClip | None = None


def bounds_of(
    protection: Protection,
    *,
    clients: int,
    size: float = 1.0,
    clip_norm: float | None = None,
) -> Bounds:
    """The mechanism of a round.

    Args:
        protection: The promise.
        clients: How many there are; decides the bits of integer messages.
        size: What sums are divided by; matters where the clip norm is steered.
        clip_norm: Of the round, where it is steered; None for the promised one.
    """
    from drdp.mechanisms.gaussian import GaussianMechanism

    if protection.mechanism is not MechanismName.GAUSSIAN:
        most = most_in_a_sum(protection.cohort, clients)
        return Bounds(integers=integer_mechanism(protection, clients=most))
    clip = protection.clip_norm if clip_norm is None else clip_norm
    if clip == math.inf:
        return Bounds()
    noise = protection.codes_noise(size)
    mechanism = GaussianMechanism(noise_multiplier=noise, clip_norm=clip)
    steering = protection.steering
    return Bounds(mechanism, rule=steering.rule(clip, size) if steering else None)
