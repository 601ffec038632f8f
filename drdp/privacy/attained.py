"""What the best attack on the worst pair of data sets reaches, at least.

A privacy curve takes the worse of a pair's two orders at every epsilon; an
attack faces one order.  Here each order has a curve of its own, so that the
trade-off read off it is that of one test, the likelihood-ratio test.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from drdp import _check
from drdp.privacy.curves import PrivacyCurve
from drdp.privacy.events import Event, FixedSizeSampled, PoissonSampled, atoms
from drdp.privacy.exact import directed_delta
from drdp.privacy.figures import certified_curve
from drdp.privacy.losses import Direction, directions
from drdp.privacy.risk import remembered
from drdp.privacy.tradeoff import sure_power, sure_power_of_either

__all__ = ["attained"]

_SMALL = 1e-15  # a delta that hardly any false positive rate depends on
_SMALL_OF_ADD = 1e-7  # "add" is the worse order where delta is large, if at all

Parts = tuple[tuple[Event, int], ...]


def attained(event: Event) -> Callable[[float], float]:
    """The true positive rate that some attack reaches, by false positive rate.

    Args:
        event: What was released.

    Returns:
        A function of a false positive rate in [0, 1].

    Guarantees:
        Never above what the likelihood-ratio test reaches on the worst known
        pair of neighbouring data sets.

    Raises:
        UnsupportedEventError: For an event with no known dominating pair.

    >>> from drdp.privacy.events import Gaussian
    >>> 0.0922 < attained(Gaussian(1.0))(0.01) <= 0.0923622
    True
    """
    lower = certified_curve(event, "lower")
    parts = tuple(atoms(event).items())
    ways = {way for atom, _ in parts for way in directions(atom, lower=True)}
    if ways <= {Direction.REMOVE}:  # both orders are alike

        def alike(fpr: float) -> float:
            return sure_power(lower.delta, lower.delta, _check.rate(fpr=fpr))

        return alike

    pairs = tuple((_poisson(atom), times) for atom, times in parts)
    if directed_delta(pairs, 1.0, remove=True) is None:

        def either(fpr: float) -> float:
            return sure_power_of_either(lower.delta, _check.rate(fpr=fpr))

        return either

    remove, add = (_order(pairs, remove=way) for way in (True, False))

    def directed(fpr: float) -> float:
        fpr = _check.rate(fpr=fpr)
        return max(
            sure_power(remove.delta, add.delta, fpr),
            sure_power(add.delta, remove.delta, fpr),
        )

    return directed


def _poisson(atom: Event) -> Event:
    """The pair that a draw of fixed size attains: that of a Poisson draw.

    The other members' contributions all point away from the unit's.
    """
    if isinstance(atom, FixedSizeSampled):
        return PoissonSampled(atom.rate, atom.event)
    return atom


def _order(pairs: Parts, *, remove: bool) -> PrivacyCurve:
    """A lower curve of one order; 0 from where on it is small or out of reach.

    Far out in its tail delta takes long to compute, so the end is approached in
    steps, and nothing is asked beyond it.
    """
    least = math.log(_SMALL if remove else _SMALL_OF_ADD)
    end, step, before = 0.0, 0.05, 0.0
    for _ in range(60):
        found = directed_delta(pairs, end, remove=remove)
        if found is None or found.lower <= 0.0:
            break
        log = math.log(found.lower)
        if log <= least + 1.0:
            break
        if end > 0.0:  # log delta falls ever faster: half of what a line allows
            fall = max(before - log, 1e-9) / step
            step = min(0.05 + 0.4 * end, 0.5 * (log - least) / fall)
        end, before = end + step, log

    def profile(epsilon: float) -> float:
        if epsilon >= end:
            return 0.0
        found = directed_delta(pairs, epsilon, remove=remove)
        return 0.0 if found is None else found.lower

    return remembered(PrivacyCurve(profile, "lower"))
