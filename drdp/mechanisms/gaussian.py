"""A sum of clipped contributions released with Gaussian noise.

>>> import numpy as np
>>> from drdp.mechanisms.noise import SeededNoise
>>> mechanism = GaussianMechanism(noise_multiplier=1.1, clip_norm=2.0)
>>> mechanism.event, mechanism.noise_std
(Gaussian(noise_multiplier=1.1), 2.2)
>>> total = sum(mechanism.bound(np.full(4, x)) for x in (0.1, 7.0))
>>> mechanism.release(total, SeededNoise(7)).shape
(4,)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.mechanisms.arrays import opened
from drdp.mechanisms.clipping import (
    Bounded,
    check_blocks,
    clip_blocks,
    known_clipping,
)
from drdp.mechanisms.noised import distance, known_scale, with_noise
from drdp.privacy.adjacency import Adjacency, known_adjacency
from drdp.privacy.blocks import Clipping
from drdp.privacy.events import Gaussian

if TYPE_CHECKING:
    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["GaussianMechanism", "analytic_gaussian"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class GaussianMechanism:
    """Clip in L2 norm, add up, add Gaussian noise.

    Args:
        noise_multiplier: The standard deviation of the noise divided by the L2
            sensitivity of the sum; 0 adds none, and its event costs everything.
        clip_norm: The largest L2 norm of one contribution, over all its arrays.
        clipping: Instead of `clip_norm`: the norms of several blocks, which are
            the top-level entries of a contribution, and how noise is spread.
        adjacency: The neighbouring relation; for ``REPLACE_ONE`` the sensitivity
            is twice the clip norm, and the noise for a multiplier twice as large.

    Guarantees:
        For neighbouring cohorts the exact sums of what `bound` returns differ by
        at most `sensitivity` in L2 norm, with each block measured in its noise
        ratio; so a release costs at most `event`, if its noise were truly
        Gaussian.  Floating-point noise is only nearly so: see docs/mechanisms.md.

    Raises:
        InvalidArgumentError: If neither of `clip_norm` and `clipping` is given,
            or both are and differ.

    `event` states the noise relative to `sensitivity`.  That is what an unsampled
    release and `FixedSizeSampled` ask for, the latter under ``REPLACE_ONE``;
    `PoissonSampled` and `FixedSizeZeroOut` ask for it relative to the norm of one
    contribution, which is `per_contribution`, and differs under ``REPLACE_ONE``
    alone, where `event` would merely cost too much.
    """

    noise_multiplier: float
    clip_norm: float | None = None
    clipping: Clipping | None = None
    adjacency: Adjacency = Adjacency.ADD_REMOVE

    def __post_init__(self) -> None:
        noise = _check.at_least_zero(noise_multiplier=self.noise_multiplier)
        clipping = self.clipping
        if clipping is None:
            if self.clip_norm is None:
                raise InvalidArgumentError(
                    "clip_norm or clipping must be given: without a bound on one"
                    " contribution no noise is enough"
                )
            clipping = Clipping((_check.positive(clip_norm=self.clip_norm),))
        known_clipping(clipping)
        if self.clip_norm not in (None, clipping.norm):
            raise InvalidArgumentError(
                f"clip_norm must be left out beside clipping, whose norm is"
                f" {clipping.norm}, got {self.clip_norm!r}"
            )
        for name, value in (
            ("noise_multiplier", noise),
            ("clipping", clipping),
            ("clip_norm", clipping.norm),
            ("adjacency", known_adjacency(self.adjacency)),
        ):
            object.__setattr__(self, name, value)
        for ratio in clipping.noise_ratios:
            known_scale(self.noise_std * ratio, "standard deviation of the noise")

    @property
    def event(self) -> Gaussian:
        """What one release costs, before any sampling."""
        return Gaussian(self.noise_multiplier)

    @property
    def per_contribution(self) -> Gaussian:
        """The same noise relative to the norm of one contribution."""
        return Gaussian(self.noise_multiplier * distance(self.adjacency))

    @property
    def sensitivity(self) -> float:
        """How far one neighbour moves the sum, in units of the noise ratios."""
        return distance(self.adjacency) * self._clipping.norm

    @property
    def noise_std(self) -> float:
        """The noise's standard deviation, where the noise ratio is 1."""
        return self.noise_multiplier * self.sensitivity

    def bound(self, contribution: Any) -> Any:
        """One contribution, clipped, in at least float32."""
        return self.bounded(contribution).value

    def bounded(self, contribution: Any) -> Bounded:
        """As `bound`, with what clipping did, which is as private as the data."""
        return clip_blocks(contribution, self._clipping)

    def release(self, total: Any, rng: NoiseSource) -> Any:
        """The total with noise, float32 or (where the total is) float64.

        Args:
            total: The sum of what `bound` returned, as `summed` makes it; for an
                empty cohort zeros, which are released like any other total.
            rng: Where the noise comes from; the release is private only if it is
                secure.

        Raises:
            InvalidArgumentError: If the total is not finite, not floating-point,
                or has not as many entries as there are clipping blocks.
        """
        shown = opened(total, "total")
        norms, ratios = self._clipping.norms, self._clipping.noise_ratios
        check_blocks(shown, norms, "total")
        scales = [
            self.noise_std * (ratios[0] if len(ratios) == 1 else ratios[block])
            for block in shown.blocks
        ]
        return with_noise(shown, scales, rng.normal)

    @property
    def _clipping(self) -> Clipping:
        if self.clipping is None:  # never, after __post_init__
            raise InvalidArgumentError("clipping must be given")
        return self.clipping


def analytic_gaussian(
    epsilon: float,
    delta: float,
    *,
    clip_norm: float | None = None,
    clipping: Clipping | None = None,
    adjacency: Adjacency = Adjacency.ADD_REMOVE,
) -> GaussianMechanism:
    """The mechanism with the least noise whose one release is (epsilon, delta)-DP.

    Args:
        epsilon: The budget of one release, at least 0.
        delta: Strictly between 0 and 1.
        clip_norm: As for `GaussianMechanism`.
        clipping: As for `GaussianMechanism`.
        adjacency: As for `GaussianMechanism`.

    Guarantees:
        The noise multiplier was itself tested to meet the budget, and is within
        1e-9 of the least one that does.

    References: Balle and Wang, arXiv:1805.06530, Theorem 8.

    >>> round(analytic_gaussian(1.0, 1e-5, clip_norm=1.0).noise_multiplier, 6)
    3.730632
    """
    from drdp.privacy._special import solve_gaussian_mu
    from drdp.privacy.calibration import calibrate, within
    from drdp.privacy.gdp import gdp_curve

    target = within(epsilon, delta)
    guess = 1.0 / solve_gaussian_mu(target.epsilon, target.delta)
    noise = calibrate(Gaussian, gdp_curve, target, guess=guess, rtol=1e-9)
    return GaussianMechanism(
        noise_multiplier=noise,
        clip_norm=clip_norm,
        clipping=clipping,
        adjacency=adjacency,
    )
