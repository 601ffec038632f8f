"""Answers that lie at random, and the frequencies that follow from them.

>>> from drdp.mechanisms.noise import SeededNoise
>>> mechanism = RandomisedResponseMechanism(epsilon=2.0, categories=3)
>>> truth = mechanism.bound(np.repeat([0, 1, 2], [500, 300, 200]))
>>> answers = mechanism.release(truth, SeededNoise(1))
>>> mechanism.frequencies(answers).round(1).tolist()
[0.5, 0.3, 0.2]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np

from drdp.errors import InvalidArgumentError
from drdp.mechanisms.enclosure import Enclosure, exp_minus, ratio
from drdp.mechanisms.lookup import Lookup
from drdp.privacy.releases import RandomisedResponse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from drdp.mechanisms.protocol import NoiseSource

__all__ = ["RandomisedResponseMechanism"]

_GUARD = 64


@final
@dataclass(frozen=True, kw_only=True)
class RandomisedResponseMechanism:
    """Each unit tells its category with probability e^eps / (e^eps + k - 1).

    Otherwise it tells one of the others, each as likely.  It needs no trusted
    party: what is released is each unit's own answer.

    Args:
        epsilon: Of one answer, above 0.
        categories: k, at least 2; a category is a number from 0 to k - 1.

    Guarantees:
        The probabilities are exact (see `lookup`).  `event` is the cost of one
        answer; a unit that answers twice pays twice.

    References: Warner 1965; Kairouz, Oh and Viswanath, arXiv:1407.1338.
    """

    epsilon: float
    categories: int = 2

    def __post_init__(self) -> None:
        RandomisedResponse(self.epsilon, self.categories)  # checks them

    @property
    def event(self) -> RandomisedResponse:
        """What one unit's answer costs."""
        return RandomisedResponse(self.epsilon, self.categories)

    @property
    def true_probability(self) -> float:
        """How likely an answer is true."""
        return 1.0 / (1.0 + (self.categories - 1) * math.exp(-self.epsilon))

    def bound(self, contribution: Any) -> NDArray[np.int64]:
        """Categories as integers: one, or an array with one for each unit.

        Raises:
            InvalidArgumentError: If one is no whole number from 0 to k - 1.
        """
        found = np.asarray(contribution)
        if found.dtype.kind not in "iu":
            raise InvalidArgumentError(
                f"contribution must be whole numbers, got {found.dtype}"
            )
        outside = (found < 0) | (found >= self.categories)
        if outside.any():
            raise InvalidArgumentError(
                f"contribution must lie between 0 and {self.categories - 1}, got"
                f" {found[outside].flat[0]}"
            )
        return found.astype(np.int64)

    def release(self, total: Any, rng: NoiseSource) -> NDArray[np.int64]:
        """The answers, one for each category in `total`, in the same shape."""
        truth = self.bound(total)
        lies = self._lookup.draws(truth.size, rng) == 1
        other = _below(self.categories - 1, truth.size, rng)
        flat = truth.reshape(-1)
        other += other >= flat
        return np.where(lies, other, flat).reshape(truth.shape)

    def frequencies(self, answers: Any) -> NDArray[np.float64]:
        """Unbiased estimates of how frequent each category is: post-processing.

        They sum to 1; a single one may be below 0 or above 1.

        Raises:
            InvalidArgumentError: If there is no answer.
        """
        found = self.bound(answers).reshape(-1)
        if found.size == 0:
            raise InvalidArgumentError("answers must not be empty")
        shares = np.bincount(found, minlength=self.categories) / found.size
        true = self.true_probability
        false = (1.0 - true) / (self.categories - 1)
        estimates: NDArray[np.float64] = (shares - false) / (true - false)
        return estimates

    @cached_property
    def _lookup(self) -> Lookup:
        """The law of 0 (true) and 1 (not)."""
        epsilon, others = Fraction(float(self.epsilon)), self.categories - 1

        def cumulative(bits: int) -> list[Enclosure]:
            width = bits + _GUARD
            one = 1 << width
            low, high = exp_minus(epsilon, width)
            whole = (one + others * low, one + others * high)
            return [ratio((one, one), whole, bits), (1 << bits, 1 << bits)]

        return Lookup(cumulative)


def _below(most: int, count: int, rng: NoiseSource) -> NDArray[np.int64]:
    """Uniform whole numbers below `most`, without bias."""
    found = rng.words(count)
    usable = (1 << 64) - (1 << 64) % most
    if usable < 1 << 64:
        while (late := np.flatnonzero(found >= np.uint64(usable))).size:
            found[late] = rng.words(late.size)
    return (found % np.uint64(most)).astype(np.int64)
