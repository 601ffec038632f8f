"""Sums over a cohort, and their mean by a number that is nobody's secret.

A sum in float32 or in half precision is rounded at every step, by amounts that
depend on everybody's data, and two sums that should differ by one clip norm then
differ by more.  `summed` carries what rounding drops along, so that the room
which clipping leaves (2^-20 of the clip norm) holds it.

>>> import numpy as np
>>> parts = [np.array([0.1, 2.0], np.float32), np.array([0.2, 3.0], np.float32)]
>>> averaged(summed(parts, like=parts[0]), 4).round(3).tolist()
[0.075, 1.25]
>>> summed([], like=parts[0]).tolist()
[0.0, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from drdp import _check
from drdp.errors import InvalidArgumentError
from drdp.mechanisms.arrays import chunks, opened

if TYPE_CHECKING:
    from drdp.mechanisms.protocol import Mechanism

__all__ = ["averaged", "summed", "weighted_bound", "zeros"]


def zeros(like: Any) -> Any:
    """The total of an empty cohort: zeros of float64 in the structure given.

    It is to be released as any other, or the absence of noise tells that nobody
    took part.
    """
    shown = opened(like, "like")
    return shown.closed([np.zeros(array.shape) for array in shown.arrays])


def summed(contributions: Iterable[Any], *, like: Any) -> Any:
    """The sum of bounded contributions, in float64.

    Args:
        contributions: What `Mechanism.bound` returned for each unit; none of
            them, for an empty cohort, gives zeros.
        like: A contribution whose structure and shapes all others share; its
            values do not matter.

    Guarantees:
        For up to 2^30 contributions whose norms keep the room that clipping
        leaves, the computed sums of neighbouring cohorts differ by at most the
        sensitivity, in whatever order they are added: compensated summation is
        off by at most (2u + O(n u^2)) sum |x| with u = 2^-53.

    Raises:
        InvalidArgumentError: If a contribution has another structure or shape.
            Broadcasting would repeat its entries, and with them its norm.

    References: Kahan, CACM 8 (1965); Casacuberta et al., CCS 2022
    (arXiv:2207.10635) for what rounding does to sensitivity.
    """
    shown = opened(like, "like")
    totals = [np.zeros(array.shape) for array in shown.arrays]
    dropped = [np.zeros(array.shape) for array in shown.arrays]
    for number, contribution in enumerate(contributions):
        found = opened(contribution, f"contribution {number}")
        if found.layout != shown.layout:
            raise InvalidArgumentError(
                f"contribution {number} must have the structure and shapes of like,"
                f" {shown.layout!r:.200}; got {found.layout!r:.200}"
            )
        for total, lost, array in zip(totals, dropped, found.arrays, strict=True):
            for kept, over, x in zip(
                chunks(total), chunks(lost), chunks(array), strict=True
            ):
                y = x - over
                t = kept + y
                over[:] = (t - kept) - y
                kept[:] = t
    return shown.closed(totals)


def averaged(total: Any, denominator: float, *, largest: float = 1.0) -> Any:
    """A released total divided by a public number.

    Args:
        total: What `Mechanism.release` returned.
        denominator: A number that depends on nobody's data, such as the expected
            size of a cohort (rate times population), or of the sum of weights.
            Never the number of those who came: it moves with each of them.
        largest: The weight that counts in full, where `weighted_bound` was used.

    Guarantees:
        Costs nothing: it only works on what was released.  The sensitivity of the
        mean is kappa w_max C / W for w_max = largest and W = denominator.
    """
    factor = _check.positive(largest=largest) / _check.positive(denominator=denominator)
    shown = opened(total, "total")
    return shown.closed([array * array.dtype.type(factor) for array in shown.arrays])


def weighted_bound(
    mechanism: Mechanism, contribution: Any, weight: float, *, largest: float
) -> Any:
    """A bounded contribution, counted by its weight relative to the largest one.

    Args:
        mechanism: What bounds it.
        contribution: One unit's contribution.
        weight: Its weight, such as its number of examples, which may be private.
            Cut to [0, largest]; one that is not a number counts as 0.
        largest: The public w_max at which weights are cut.

    Returns:
        ``min(weight, largest) / largest`` times what ``mechanism.bound`` returns,
        so that the mechanism's own sensitivity and event hold as they are.
        Divide the release with ``averaged(released, W, largest=largest)`` by a
        public W: dividing by the sum of weights would let one unit's weight move
        everybody's contribution.

    >>> from drdp.mechanisms.gaussian import GaussianMechanism
    >>> mechanism = GaussianMechanism(noise_multiplier=1.0, clip_norm=8.0)
    >>> weighted_bound(mechanism, np.array([4.0]), 25, largest=100)
    array([1.])
    """
    largest = _check.positive(largest=largest)
    cut = min(max(float(weight), 0.0), largest) if not math.isnan(weight) else 0.0
    share = cut / largest
    shown = opened(mechanism.bound(contribution), "the bounded contribution")
    return shown.closed([array * array.dtype.type(share) for array in shown.arrays])
