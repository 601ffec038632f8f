"""Sums on an integer grid under discrete noise, as secure aggregation needs them.

Each contribution is clipped, rotated and rounded to integers whose norm is
known (`integer_grid`); the noise is an integer too and drawn exactly, so that
no rounding of floats gives anything away (Mironov, CCS 2012).  It comes either
in one piece to the total (`release`) or as a share in every client's message
(`share`), of which only the sum modulo 2^bits is seen.

>>> import numpy as np
>>> from drdp.mechanisms.modular import secure_sum
>>> from drdp.mechanisms.noise import SecureNoise
>>> mechanism = SkellamMechanism(
...     noise_multiplier=1.0, clip_norm=1.0, granularity=1e-3, length=3, clients=3,
...     survivors=2, adjacency="zero-out")
>>> rng = SecureNoise()
>>> updates = [np.array([0.6, 0.0, 0.8]), np.array([3.0, 4.0, 0.0]), np.zeros(3)]
>>> messages = [mechanism.share(mechanism.bound(update), rng) for update in updates]
>>> mechanism.unwrap(secure_sum(messages, mechanism.bits)).shape
(3,)
>>> mechanism.event.dimension, round(mechanism.event.sensitivity)
(4, 1001)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.mechanisms.aggregation import Aggregation
from drdp.mechanisms.clipping import Bounded
from drdp.mechanisms.discrete_gaussian import LARGEST_SCALE, discrete_gaussian
from drdp.mechanisms.integer_grid import IntegerGrid
from drdp.mechanisms.skellam import LARGEST_VARIANCE, skellam
from drdp.privacy.adjacency import Adjacency
from drdp.privacy.distributed import distributed_discrete_gaussian
from drdp.privacy.releases import DiscreteGaussian, Skellam, ZeroConcentrated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["DiscreteGaussianMechanism", "SkellamMechanism"]

_BETA = math.exp(-0.5)


@final
@dataclass(frozen=True, kw_only=True)
class DiscreteGaussianMechanism:
    """Sums of vectors on an integer grid with discrete Gaussian noise.

    Args:
        noise_multiplier: The noise's standard deviation in each coordinate of
            the total, as a multiple of the sensitivity.  With `survivors` it is
            that of their shares together.
        clip_norm: The L2 norm that contributions are clipped to.
        granularity: The grid's step, in the unit of the contributions.  Finer
            rounds less and needs more bits.
        length: How many numbers a contribution has.
        clients: The most contributions in one total; it decides how many bits
            are needed, and has nothing to do with privacy.
        survivors: None: the noise is added once, by `release`.  A number: the
            honest clients whose messages are sure to be in the total, dropouts
            and colluders not counted; every client adds a share by `share`, and
            that many shares are the noise that is counted on.
        adjacency: Replace-one doubles the sensitivity.  With `survivors`, where
            a client whose data is left out must still send its share of noise,
            say zero-out or replace-one; add-remove is refused.
        bits: The total is seen modulo 2^bits; None becomes the fewest that make
            wrapping round unlikely.  `dataclasses.replace` keeps them: give it
            ``bits=None`` to have them decided anew.
        rotation_seed: Of the public rotation.
        beta: How likely one rounding may be refused, see `IntegerGrid`.
        rounding: Where roundings take their randomness from; None is the
            operating system.  A field and not an argument of `bound`, because
            it is not the noise: whatever it gives, the norm holds.  One that can
            be replayed is for simulations, like noise that can be replayed.

    Guarantees:
        Neighbouring totals differ by an integer vector of norm at most
        ``aggregation.sensitivity``, which is the sensitivity in `event`.  The
        noise has exactly the law that `event` names.  Wrapping round, decoding
        and the noise of further clients are post-processing.  How long a call
        takes is not protected.

    Under Poisson sampling: no accountant has a formula for a sampled vector of
    integers, whose worst case is not proven, so state `event` itself for every
    round.  Leaving the sampling out never states too little.

    References: Kairouz, Liu and Steinke, arXiv:2102.06387.
    """

    noise_multiplier: float
    clip_norm: float
    granularity: float
    length: int
    clients: int
    survivors: int | None = None
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    bits: int | None = None
    rotation_seed: int = 0
    beta: float = _BETA
    rounding: NoiseSource | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check.positive(noise_multiplier=self.noise_multiplier)
        _in_reach(self, self.share_scale**2, LARGEST_SCALE**2)
        if self.survivors is not None and self.share_scale**2 < 0.5:
            raise InvalidArgumentError(
                f"granularity must be finer than {self.granularity}: a share of noise"
                f" has scale {self.share_scale:.3g} on the grid, and below sqrt(1/2)"
                " shares do not add up to discrete Gaussian noise; Skellam's do"
            )
        bits = self.aggregation.bits(self.bits, self.share_scale**2)
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "adjacency", self.aggregation.adjacency)

    @cached_property
    def aggregation(self) -> Aggregation:
        """The grid, the sensitivity on it and the modulus."""
        return _aggregation(self)

    @property
    def share_scale(self) -> float:
        """The scale s of one share of noise, in grid steps; of all, in one piece."""
        whole = self.noise_multiplier * self.aggregation.sensitivity
        return _above(whole / math.sqrt(self.aggregation.sure_shares))

    @property
    def wrap_chance(self) -> float:
        """An estimate of how likely any coordinate of a total wraps round."""
        return self.aggregation.wrap_chance(_bits(self), self.share_scale**2)

    @cached_property
    def event(self) -> DiscreteGaussian | ZeroConcentrated:
        """What one total costs: a discrete Gaussian, or nearly one from shares."""
        far, size = self.aggregation.sensitivity, self.aggregation.grid.dimension
        if self.survivors is None:
            return DiscreteGaussian(self.noise_multiplier, far, size)
        return distributed_discrete_gaussian(
            self.survivors, self.share_scale, far, dimension=size
        )

    def bound(self, contribution: Any) -> NDArray[np.int64]:
        """One client's contribution as integers, a power of two of them."""
        found: NDArray[np.int64] = self.bounded(contribution).value
        return found

    def bounded(self, contribution: Any) -> Bounded:
        """As `bound`, with what clipping did, which is as private as the data."""
        return self.aggregation.grid.rounded(contribution, self.rounding)

    def share(self, bounded: Any, rng: NoiseSource) -> NDArray[np.int64]:
        """A client's message: its integers and its share of noise, modulo 2^bits."""
        self.aggregation.want_shares()
        return self._noised("bounded", bounded, rng)

    def release(self, total: Any, rng: NoiseSource) -> NDArray[np.float64]:
        """The sum of bounded contributions with noise, as `length` real numbers."""
        self.aggregation.want_one_piece()
        return self.unwrap(self._noised("total", total, rng))

    def unwrap(self, total: Any) -> NDArray[np.float64]:
        """The real vector that a noised total modulo 2^bits stands for."""
        return self.aggregation.unwrapped(total, _bits(self))

    def _noised(self, name: str, values: Any, rng: NoiseSource) -> NDArray[np.int64]:
        noise = discrete_gaussian(
            self.aggregation.grid.dimension, self.share_scale, rng
        )
        return self.aggregation.noised(name, values, noise, _bits(self))


@final
@dataclass(frozen=True, kw_only=True)
class SkellamMechanism:
    """Sums of vectors on an integer grid with Skellam noise.

    Arguments and guarantees are those of `DiscreteGaussianMechanism`.  Skellam
    shares add up to Skellam noise exactly, however small they are, so coarse
    grids and few bits serve as well; what is proven of its cost exceeds a
    Gaussian's by a term that falls with the noise on the grid.

    References: Agarwal, Kairouz and Liu, arXiv:2110.04995.
    """

    noise_multiplier: float
    clip_norm: float
    granularity: float
    length: int
    clients: int
    survivors: int | None = None
    adjacency: Adjacency = Adjacency.ADD_REMOVE
    bits: int | None = None
    rotation_seed: int = 0
    beta: float = _BETA
    rounding: NoiseSource | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check.positive(noise_multiplier=self.noise_multiplier)
        _in_reach(self, self.share_variance, LARGEST_VARIANCE)
        bits = self.aggregation.bits(self.bits, self.share_variance)
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "adjacency", self.aggregation.adjacency)

    @cached_property
    def aggregation(self) -> Aggregation:
        """The grid, the sensitivity on it and the modulus."""
        return _aggregation(self)

    @property
    def share_variance(self) -> float:
        """The variance of one share of noise, in grid steps; of all, in one piece."""
        whole = (self.noise_multiplier * self.aggregation.sensitivity) ** 2
        return _above(whole / self.aggregation.sure_shares)

    @property
    def wrap_chance(self) -> float:
        """An estimate of how likely any coordinate of a total wraps round."""
        return self.aggregation.wrap_chance(_bits(self), self.share_variance)

    @cached_property
    def event(self) -> Skellam:
        """What one total costs, with the noise of the survivors alone."""
        exact = self.aggregation.sure_shares * Fraction(self.share_variance)
        variance = float(exact)
        if variance > exact:
            variance = math.nextafter(variance, 0.0)
        return Skellam(
            variance,
            self.aggregation.sensitivity,
            self.aggregation.grid.dimension,
            self.aggregation.l1_sensitivity,
        )

    def bound(self, contribution: Any) -> NDArray[np.int64]:
        """One client's contribution as integers, a power of two of them."""
        found: NDArray[np.int64] = self.bounded(contribution).value
        return found

    def bounded(self, contribution: Any) -> Bounded:
        """As `bound`, with what clipping did, which is as private as the data."""
        return self.aggregation.grid.rounded(contribution, self.rounding)

    def share(self, bounded: Any, rng: NoiseSource) -> NDArray[np.int64]:
        """A client's message: its integers and its share of noise, modulo 2^bits."""
        self.aggregation.want_shares()
        return self._noised("bounded", bounded, rng)

    def release(self, total: Any, rng: NoiseSource) -> NDArray[np.float64]:
        """The sum of bounded contributions with noise, as `length` real numbers."""
        self.aggregation.want_one_piece()
        return self.unwrap(self._noised("total", total, rng))

    def unwrap(self, total: Any) -> NDArray[np.float64]:
        """The real vector that a noised total modulo 2^bits stands for."""
        return self.aggregation.unwrapped(total, _bits(self))

    def _noised(self, name: str, values: Any, rng: NoiseSource) -> NDArray[np.int64]:
        noise = skellam(self.aggregation.grid.dimension, self.share_variance, rng)
        return self.aggregation.noised(name, values, noise, _bits(self))


_Either = DiscreteGaussianMechanism | SkellamMechanism


def _aggregation(mechanism: _Either) -> Aggregation:
    grid = IntegerGrid(
        clip_norm=mechanism.clip_norm,
        granularity=mechanism.granularity,
        length=mechanism.length,
        rotation_seed=mechanism.rotation_seed,
        beta=mechanism.beta,
    )
    return Aggregation(
        grid=grid,
        clients=mechanism.clients,
        survivors=mechanism.survivors,
        adjacency=mechanism.adjacency,
    )


def _in_reach(mechanism: _Either, variance: float, most: float) -> None:
    if variance > most:
        raise InvalidArgumentError(
            f"granularity must be coarser than {mechanism.granularity}: a share of"
            f" noise has standard deviation {math.sqrt(variance):.3g} on the grid, and"
            f" at most {math.sqrt(most):.3g} can be drawn"
        )


def _bits(mechanism: _Either) -> int:
    """The bits, which are decided when a mechanism is made."""
    return mechanism.bits or 0


def _above(value: float) -> float:
    """A little more, by more than the roundings of a product and a root take."""
    return value * (1.0 + 2.0**-50)
