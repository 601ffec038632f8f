"""Where the contour goes: the saddle point, Chernoff's bound, the period.

A composition is a tuple of parallel buffers: kind (0 sampled Gaussian, 1
Gaussian, 2 Laplace), rate, noise multiplier, count and cut of each atom.  In
the "remove" direction orders are above 1 and e = epsilon; in the "add"
direction orders are below 0 and e = -epsilon.
"""

from __future__ import annotations

import math

from drdp.privacy.kernel import Buffer, kernel
from drdp.privacy.moments import grid_step, log_moment

__all__ = ["chernoff", "cumulants", "period", "saddle_for_delta", "saddle_for_epsilon"]

Terms = tuple[Buffer, Buffer, Buffer, Buffer, Buffer]


@kernel
def plain_moment(kind: float, s: float, order: float) -> tuple[float, float, float]:
    """K, K' and K'' of an unsampled Gaussian or Laplace release."""
    if kind == 1.0:
        square = s * s
        return 0.5 * order * (order - 1.0) / square, (order - 0.5) / square, 1 / square
    # M = [c e^((c-1) b) + (c-1) e^(-c b)] / (2c - 1), scaled by the larger term
    b = 1.0 / s
    one = (order - 1.0) * b
    two = -order * b
    top = max(one, two)
    e1 = math.exp(one - top)
    e2 = math.exp(two - top)
    d = 2.0 * order - 1.0
    f = order * e1 + (order - 1.0) * e2
    f1 = e1 + e2 + b * (order * e1 - (order - 1.0) * e2)
    f2 = 2.0 * b * (e1 - e2) + b * b * (order * e1 + (order - 1.0) * e2)
    slope = f1 / f - 2.0 / d
    return top + math.log(f / d), slope, f2 / f - (f1 / f) ** 2 + 4.0 / (d * d)


@kernel
def cumulants(terms: Terms, order: float, effort: float) -> tuple[float, float, float]:
    """log M and its first two derivatives at a real order, all atoms added.

    e^-effort is the error of log M in all: an atom that happens n times gets
    log n more.
    """
    kinds, rates, sigmas, counts, cuts = terms
    moment = 0.0
    slope = 0.0
    bend = 0.0
    for i in range(len(kinds)):
        if kinds[i] == 0.0:
            own = effort + math.log(counts[i])
            k0, k1, k2 = log_moment(order, rates[i], sigmas[i], cuts[i], own)
        else:
            k0, k1, k2 = plain_moment(kinds[i], sigmas[i], order)
        moment += counts[i] * k0
        slope += counts[i] * k1
        bend += counts[i] * k2
    return moment, slope, bend


@kernel
def steepness(order: float, bend: float) -> float:
    """Minus the second derivative of log F along the contour."""
    return bend + 1.0 / (order * order) + 1.0 / ((order - 1.0) * (order - 1.0))


@kernel
def order_limit(terms: Terms) -> float:
    """log of the largest order worth looking at.

    The nodes of an atom that is not cut off grow with the order; beyond a
    hundred thousand of them something else is the better tool.
    """
    kinds, rates, sigmas, _, cuts = terms
    limit = 17.0
    for i in range(len(kinds)):
        if kinds[i] == 0.0 and cuts[i] == math.inf:
            step = grid_step(sigmas[i], 2.0, rates[i], 0.0, 1.0, 20.0)
            limit = min(limit, math.log(10.0 + 1e5 * step))
    return limit


@kernel
def step_inside(v: float, low: float, high: float, up: bool, most: float) -> float:
    """v if it lies between the ends found so far, else a safer next try."""
    if low < v < high:
        return v
    if low > -34.0 and high < most:
        return 0.5 * (low + high)
    return min(low + 1.5, 0.5 * (low + high)) if up else high - 1.5


@kernel
def saddle_for_epsilon(
    terms: Terms, e: float, remove: bool, start: float, effort: float
) -> tuple[float, float, bool]:
    """The order at which the integrand is least on the real line.

    To a twentieth of a standard deviation of the tilted loss, which is all
    that the contour needs.  Returns (order, log M, found).
    """
    low = -34.0
    most = order_limit(terms)
    high = most
    v = min(math.log(start), most - 0.1)
    order = 2.0
    moment = 0.0
    for _ in range(60):
        order = 1.0 + math.exp(v) if remove else -math.exp(v)
        moment, slope, bend = cumulants(terms, order, effort)
        g = slope - e - 1.0 / order - 1.0 / (order - 1.0)
        steep = steepness(order, bend)
        if g * g < 0.0025 * steep:
            return order, moment, True
        up = (g < 0.0) == remove
        if up:
            low = v
        else:
            high = v
        if high - low < 1e-9:
            break
        move = g / (math.exp(v) * steep)
        v = step_inside(v - move if remove else v + move, low, high, up, most)
    return order, moment, False


@kernel
def saddle_for_delta(
    terms: Terms, wanted: float, remove: bool, start: float, effort: float
) -> tuple[float, float, bool]:
    """The order whose saddle-point delta is e^wanted.

    Returns (order, its e, found).
    """
    low = -34.0
    most = order_limit(terms)
    high = most
    v = min(math.log(start), most - 0.1)
    order = 2.0
    e = 0.0
    for _ in range(60):
        order = 1.0 + math.exp(v) if remove else -math.exp(v)
        moment, slope, bend = cumulants(terms, order, effort)
        e = slope - 1.0 / order - 1.0 / (order - 1.0)
        steep = steepness(order, bend)
        here = moment - order * e - math.log(order * (order - 1.0))
        here -= 0.5 * math.log(2.0 * math.pi * steep)
        if remove:
            here += e
        gap = here - wanted
        if gap < 0.05 and gap > -0.05:
            return order, e, True
        up = gap > 0.0
        if up:
            low = v
        else:
            high = v
        if high - low < 1e-9:
            break
        gain = order - 1.0 if remove else -order
        move = gap / (gain * steep * math.exp(v))
        v = step_inside(v + move, low, high, up, most)
    return order, e, False


@kernel
def chernoff(moment: float, order: float, e: float, remove: bool) -> float:
    """log of Chernoff's bound on delta at one order.

    The factor in front is the largest value of (r - 1)+ r^-order, or of its
    mirror image: for "remove" this is the conversion of Renyi divergences.
    """
    if remove:
        a = order - 1.0
        return moment - a * e + a * math.log(a / order) - math.log(order)
    a = -order
    return moment + a * e + a * math.log(a / (1.0 + a)) - math.log(1.0 + a)


@kernel
def period(
    terms: Terms,
    order: float,
    moment: float,
    steep: float,
    e: float,
    remove: bool,
    effort: float,
) -> tuple[float, float, float, float, float]:
    """How far apart aliases must be to be below e^-effort, and the proof.

    The proof is a pair (rate, lift) for each side: an alias m periods away is
    at most exp(lift -+ rate e - m rate period) of the integrand's scale.
    Returns (period, rate above, lift above, rate below, lift below).
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
            # stay on this side of the poles at 0 and 1
            if side == 0 and not remove:
                rate = min(rate, -0.9 * order)
            if side == 1 and remove:
                rate = min(rate, 0.9 * (order - 1.0))
            there = order + rate if side == 0 else order - rate
            lift = cumulants(terms, there, 22.0)[0] - moment
            lift += 1e-9 * (1.0 + math.fabs(moment))
            reach = (
                (effort + lift) / rate - e
                if side == 0
                else ((effort + lift) / rate + e)
            )
            if reach >= best:
                break
            best = reach
            if side == 0:
                rate_above, lift_above = rate, lift
            else:
                rate_below, lift_below = rate, lift
            d = 0.6 * rate * width
        found = max(found, best)
    return found, rate_above, lift_above, rate_below, lift_below
