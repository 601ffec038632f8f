"""A sum of contributions clipped in L1 norm, released with Laplace noise.

>>> import numpy as np
>>> from drdp.mechanisms.noise import SeededNoise
>>> mechanism = LaplaceMechanism(noise_multiplier=2.0, clip_norm=1.0)
>>> mechanism.event, mechanism.noise_scale
(Laplace(noise_multiplier=2.0), 2.0)
>>> mechanism.release(mechanism.bound(np.ones(4)), SeededNoise(7)).shape
(4,)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.mechanisms.arrays import opened
from drdp.mechanisms.clipping import Bounded, clip_l1, known_clipping
from drdp.mechanisms.noised import distance, known_scale, with_noise
from drdp.privacy.adjacency import Adjacency, known_adjacency
from drdp.privacy.blocks import Clipping
from drdp.privacy.events import Laplace

if TYPE_CHECKING:
    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["LaplaceMechanism"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LaplaceMechanism:
    """Clip in L1 norm, add up, add Laplace noise: (1/noise_multiplier)-DP.

    Args:
        noise_multiplier: The scale of the noise divided by the L1 sensitivity of
            the sum; 0 adds none, and its event costs everything.
        clip_norm: The largest L1 norm of one contribution, over all its arrays.
        adjacency: The neighbouring relation; for ``REPLACE_ONE`` the sensitivity
            is twice the clip norm, and the noise for a multiplier twice as large.

    Guarantees:
        For neighbouring cohorts the exact sums of what `bound` returns differ by
        at most `sensitivity` in L1 norm; so a release costs at most `event`, if
        its noise were truly Laplace.  Floating-point noise is only nearly so: see
        docs/mechanisms.md.

    `event` and `per_contribution` are as for `GaussianMechanism`.

    References: Dwork, McSherry, Nissim and Smith, TCC 2006.
    """

    noise_multiplier: float
    clip_norm: float
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        noise = _check.at_least_zero(noise_multiplier=self.noise_multiplier)
        norm = _check.positive(clip_norm=self.clip_norm)
        known_clipping(Clipping((norm,)))
        object.__setattr__(self, "noise_multiplier", noise)
        object.__setattr__(self, "clip_norm", norm)
        object.__setattr__(self, "adjacency", known_adjacency(self.adjacency))
        known_scale(self.noise_scale, "scale of the noise")

    @property
    def event(self) -> Laplace:
        """What one release costs, before any sampling."""
        return Laplace(self.noise_multiplier)

    @property
    def per_contribution(self) -> Laplace:
        """The same noise relative to the norm of one contribution."""
        return Laplace(self.noise_multiplier * distance(self.adjacency))

    @property
    def sensitivity(self) -> float:
        """How far one neighbour moves the sum, in L1 norm."""
        return distance(self.adjacency) * self.clip_norm

    @property
    def noise_scale(self) -> float:
        """The scale of the noise: its standard deviation divided by sqrt(2)."""
        return self.noise_multiplier * self.sensitivity

    def bound(self, contribution: Any) -> Any:
        """One contribution, clipped, in at least float32."""
        return self.bounded(contribution).value

    def bounded(self, contribution: Any) -> Bounded:
        """As `bound`, with what clipping did, which is as private as the data."""
        return clip_l1(contribution, self.clip_norm)

    def release(self, total: Any, rng: NoiseSource) -> Any:
        """The total with noise, float32 or (where the total is) float64.

        Args:
            total: The sum of what `bound` returned; zeros for an empty cohort.
            rng: Where the noise comes from; the release is private only if it is
                secure.

        Raises:
            InvalidArgumentError: If the total is not finite or not floating-point.
        """
        shown = opened(total, "total")
        scales = [self.noise_scale] * len(shown.arrays)
        return with_noise(shown, scales, rng.laplace)
