"""delta where it comes from a few rare large losses, by a sum over those alone.

Written as M = B + J (`windows`), a composition is a sum over how many jumps it
takes.  With at least one it is the transform of another measure,

    M^T - B^T = B^T expm1(T log1p(J / B)),

which falls off at the scale of the jumps: its contour sum is short where that
of M^T would have to resolve the bulk and the largest jump at once.  What takes
no jump, B^T, is split again in the same way, or bounded by Chernoff.  Only the
"remove" direction is summed here.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel
from drdp.privacy.nodes import Terms, plain_moment
from drdp.privacy.saddle import chernoff, flag
from drdp.privacy.windows import (
    PartNodes,
    bulk_moment,
    jump_moment,
)

__all__ = ["bulk_bound", "height", "order_for", "shape_at", "spread_out"]

Law = tuple[PartNodes, Buffer, Buffer, PartNodes]
"""Bulk nodes, what their windows leave out, and jump nodes."""


@kernel
def height(terms: Terms, law: Law, order: float, which: int) -> tuple[float, float]:
    """log of a transform at a real order, and its slope.

    which 0: B^T alone; 1: M^T - B^T.
    """
    kinds, _, sigmas, counts, _ = terms
    low, missing, mean, high = law
    bulk = 0.0
    bulk_slope = 0.0
    jumps = 0.0
    jumps_slope = 0.0
    for i in range(len(kinds)):
        if kinds[i] != 0.0:
            k0, k1, _ = plain_moment(kinds[i], sigmas[i], order)
            bulk += counts[i] * k0
            bulk_slope += counts[i] * k1
            continue
        start = int(low[4][i])
        stop = int(low[4][i + 1])
        b0, b1 = bulk_moment(order, start, stop, low, missing[i], mean[i])
        if b0 == math.inf:
            return math.inf, math.inf
        bulk += counts[i] * b0
        bulk_slope += counts[i] * b1
        if which == 1:
            j0, j1 = jump_moment(order, int(high[4][i]), int(high[4][i + 1]), high)
            if j0 - b0 > 690.0:
                return math.inf, math.inf
            ratio = math.exp(j0 - b0)
            jumps += counts[i] * math.log1p(ratio)
            jumps_slope += counts[i] * ratio * (j1 - b1) / (1.0 + ratio)
    if which == 0:
        return bulk, bulk_slope
    if jumps > 40.0:
        return bulk + jumps, bulk_slope + jumps_slope
    if not jumps > 0.0:
        return -math.inf, bulk_slope
    gain = math.expm1(jumps)
    return bulk + math.log(gain), bulk_slope + jumps_slope * (1.0 + gain) / gain


@kernel
def order_for(
    terms: Terms, law: Law, e: float, which: int, start: float
) -> tuple[float, float, float, bool]:
    """The saddle point on the real line, to a few percent of order - 1.

    Returns (order, log of the transform there, its steepness, found).
    """
    low = -30.0
    high = 40.0
    known_low = 0
    known_high = 0
    v = start
    step = 1.0
    for _ in range(60):
        order = 1.0 + math.exp(v)
        _, slope = height(terms, law, order, which)
        if slope - e - 1.0 / order - 1.0 / (order - 1.0) < 0.0:
            low = v
            known_low = 1
        else:
            high = v
            known_high = 1
        if known_low + known_high == 2:
            if high - low < 0.03:
                break
            v = 0.5 * (low + high)
        elif known_low == 1:
            v = low + step
            step *= 1.6
        else:
            v = high - step
            step *= 1.6
        if v < -30.0 or v > 40.0:
            return 2.0, 0.0, 1.0, flag(0.0)
    order = 1.0 + math.exp(low)
    moment, steep = shape_at(terms, law, order, which)
    return order, moment, steep, moment > -math.inf and 0.0 < steep < math.inf


@kernel
def shape_at(terms: Terms, law: Law, order: float, which: int) -> tuple[float, float]:
    """log of the transform at a real order, and its steepness there."""
    moment, slope = height(terms, law, order, which)
    aside = 1.0 + 1.01 * (order - 1.0)
    bend = (height(terms, law, aside, which)[1] - slope) / (aside - order)
    return moment, bend + 1.0 / order**2 + 1.0 / (order - 1.0) ** 2


@kernel
def bulk_bound(terms: Terms, law: Law, e: float, start: float) -> tuple[float, float]:
    """Chernoff's bound on log delta of B^T alone, and its order - 1."""
    yes = flag(1.0)
    best = math.inf
    at = start
    for k in range(-8, 80):
        v = start + 0.4 * k
        value = chernoff(
            height(terms, law, 1.0 + math.exp(v), 0)[0], 1.0 + math.exp(v), e, yes
        )
        if value < best:
            best = value
            at = v
        elif best < math.inf and v > at + 1.0:
            break
    for step in (0.2, 0.1, 0.05):
        middle = at
        for sign in (-1.0, 1.0):
            v = middle + sign * step
            order = 1.0 + math.exp(v)
            value = chernoff(height(terms, law, order, 0)[0], order, e, yes)
            if value < best:
                best = value
                at = v
    return best, math.exp(at)


@kernel
def spread_out(
    terms: Terms,
    law: Law,
    which: int,
    order: float,
    moment: float,
    steep: float,
    e: float,
    effort: float,
) -> tuple[float, float, float, float, float]:
    """The period at which aliases are below e^-effort, and the proof.

    As `saddle.period`, for the transforms of `height`.
    """
    width = math.sqrt(steep)
    found = 0.0
    rate_above = 0.0
    lift_above = 0.0
    rate_below = 0.0
    lift_below = 0.0
    for side in range(2):
        best = math.inf
        d = 8.5
        for _ in range(14):
            rate = d / width
            if side == 1:
                rate = min(rate, 0.9 * (order - 1.0))
            there = order + rate if side == 0 else order - rate
            lift = height(terms, law, there, which)[0] - moment
            lift += 1e-9 * (1.0 + math.fabs(moment))
            reach = (effort + lift) / rate - e
            if side == 1:
                reach += 2.0 * e
            d = 0.6 * rate * width
            if reach < best:
                best = reach
                if side == 0:
                    rate_above, lift_above = rate, lift
                else:
                    rate_below, lift_below = rate, lift
            elif best < math.inf:
                break
        found = max(found, best)
    return found, rate_above, lift_above, rate_below, lift_below
