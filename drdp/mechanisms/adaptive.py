"""A clip norm that follows a quantile of the norms, and what following it costs.

Each contribution adds half a unit up where it was not clipped, down where it
was; the noised sum tells which share was not, and the clip norm moves towards
the one that clips as wanted.  The count pays from the same budget as the
updates: with noise multipliers 1/z^2 = 1/z_updates^2 + 1/z_count^2.

References: Andrew, Thakkar, McMahan and Ramaswamy, arXiv:1905.03871, Theorem 1.

>>> clip = AdaptiveClip(clip_norm=1.0, expected_size=100)
>>> round(clip.mechanism(noise_multiplier=1.0).noise_multiplier, 6)
1.005038
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

import numpy as np

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.mechanisms.arrays import opened
from drdp.mechanisms.clipping import LARGEST_NORM, SMALLEST_NORM, Bounded, clip_l2
from drdp.mechanisms.gaussian import GaussianMechanism
from drdp.mechanisms.noised import distance, with_noise
from drdp.privacy.adjacency import Adjacency, known_adjacency
from drdp.privacy.events import Gaussian

if TYPE_CHECKING:
    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["AdaptiveClip"]

SHARE = 0.5
"""How far one contribution moves the count, up or down."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveClip:
    """The clip norm of one round, and the rule that makes the next one's.

    Args:
        clip_norm: The clip norm of this round.
        expected_size: The public size of a cohort, such as rate times
            population; never the number of those who came.
        quantile: The share of contributions that should not be clipped.
        learning_rate: How far the logarithm of the clip norm moves at most, for
            each unit by which the share is off.
        count_noise: The standard deviation of the noise on the sum of shares; by
            default a twentieth of `expected_size`.
        adjacency: The neighbouring relation.

    Guarantees:
        A round that releases ``mechanism(z)`` and `step` costs Gaussian(z),
        sampled like the round; z is the same in every round although the clip
        norm depends on what was released before.

    Absence must mean no share: a unit that is absent, or under ``ZERO_OUT``
    contributes zero, adds neither an update nor a share, and then moves the sum
    of shares by 1/2.  So `share` gives 0 for a contribution of zeros.  A null
    unit whose contribution is not zero may move the sum by 1; state
    ``REPLACE_ONE`` for that.
    """

    clip_norm: float
    expected_size: float
    quantile: float = 0.5
    learning_rate: float = 0.2
    count_noise: float | None = None
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        size = _check.positive(expected_size=self.expected_size)
        noise = size / 20.0 if self.count_noise is None else self.count_noise
        for name, value in (
            ("expected_size", size),
            ("quantile", _check.probability(quantile=self.quantile)),
            ("learning_rate", _check.positive(learning_rate=self.learning_rate)),
            ("count_noise", _check.positive(count_noise=noise)),
            ("adjacency", known_adjacency(self.adjacency)),
        ):
            object.__setattr__(self, name, value)
        clip_l2(np.zeros(0), self.clip_norm)  # checks it

    @property
    def event(self) -> Gaussian:
        """What the count alone costs: noise relative to how far one unit moves it."""
        return Gaussian(self._count_noise / (distance(self.adjacency) * SHARE))

    def mechanism(self, noise_multiplier: float) -> GaussianMechanism:
        """What releases the updates of this round, so that the round costs that.

        Args:
            noise_multiplier: The noise multiplier of updates and count together.

        Raises:
            InvalidArgumentError: If the count alone costs as much, or more.
        """
        noise = _check.positive(noise_multiplier=noise_multiplier)
        count = self.event.noise_multiplier
        if count <= noise:
            raise InvalidArgumentError(
                f"noise_multiplier must be below {count:.6g}, that of the count, which"
                f" would use up the whole budget; got {noise:.6g}.  Raise count_noise"
                f" (now {self._count_noise:.6g}) if a share of contributions that is"
                f" off by {noise * distance(self.adjacency) * SHARE:.3g} /"
                f" {self.expected_size:.6g} or more is still of use, ask for larger"
                " cohorts, or use a fixed clip norm"
            )
        return GaussianMechanism(
            noise_multiplier=_remaining(noise, count),
            clip_norm=self.clip_norm,
            adjacency=self.adjacency,
        )

    def share(self, bounded: Bounded) -> float:
        """What one contribution adds to the count: 1/2, or -1/2 where it was clipped.

        One with entries that were not finite counts as clipped, and one of zeros
        not at all, as if it were absent.
        """
        if bounded.norm == 0.0 and not bounded.zeroed:
            return 0.0
        return -SHARE if bounded.clipped else SHARE

    def step(self, shares: float, rng: NoiseSource) -> AdaptiveClip:
        """The next round's clip norm, from the noised sum of shares.

        Args:
            shares: The sum of `share` over the cohort; 0 for an empty one.
            rng: Where the noise comes from.

        Returns:
            The same rule with a clip norm multiplied by
            ``exp(-learning_rate * (unclipped - quantile))``, where `unclipped` is
            the released share; it is not public before this.
        """
        total = opened(np.array(_check.real(shares=shares)))
        released = float(with_noise(total, [self._count_noise], rng.normal))
        unclipped = released / self.expected_size + SHARE
        exponent = -self.learning_rate * (unclipped - self.quantile)
        moved = self.clip_norm * math.exp(min(max(exponent, -100.0), 100.0))
        return replace(self, clip_norm=min(max(moved, SMALLEST_NORM), LARGEST_NORM))

    @property
    def _count_noise(self) -> float:
        return self.count_noise or self.expected_size / 20.0


def _remaining(total: float, count: float) -> float:
    """z_updates with 1/z_updates^2 + 1/count^2 at most 1/total^2."""
    share = total / count
    found = total / math.sqrt((1.0 - share) * (1.0 + share))
    while (total / found) ** 2 + share**2 > 1.0:
        found = math.nextafter(found, math.inf)
    return found
